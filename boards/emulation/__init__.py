"""Links without hardware: emulated lines, an emulated radio, and what they lose."""
