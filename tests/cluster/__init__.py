"""Tests on one Ray cluster, which ends with the last of them: a package, so that its fixture can."""
