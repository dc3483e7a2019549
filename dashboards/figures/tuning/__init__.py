"""What the search did and found."""
