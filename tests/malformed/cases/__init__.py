"""The cases, one module a kind of damage. Importing a module registers its cases."""
