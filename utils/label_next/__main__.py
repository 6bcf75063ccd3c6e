"""`python -m utils.label_next MODEL FILE`: write the rows that are worth a label to label_next.csv."""

from utils.label_next.choosing import main

if __name__ == "__main__":
    main()
