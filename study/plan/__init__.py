"""From a spec to cells, searches and jobs: pure, printable, nothing is trained here."""
