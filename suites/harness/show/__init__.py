"""Tables, pictures, the page."""
