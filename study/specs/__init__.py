"""The built-in specs, as TOML files that ship with the package."""
