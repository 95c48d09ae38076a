"""One search: prepared, driven, recorded, resumed, verified."""
