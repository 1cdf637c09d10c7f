"""What is run as a program: it imports the library, never the reverse."""
