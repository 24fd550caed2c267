"""How the generator uses each operator: one file a family, registered by `dlc.fuzz.table.operator`."""
