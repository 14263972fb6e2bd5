"""python -m backfilld."""

from backfilld.surfaces.cli import main

if __name__ == "__main__":
    main()
