"""Tables and other numbers: regression, classification, multilabel."""
