"""Fine-tuning: from rows of data to an adapter whose making can be proved.

Rows are read (`sources`, `formats`, `own_rows`), judged (`gathering`), masked (`masking`), packed
(`packing`), trained (`training/`), and what comes of it is kept with its lineage (`output`).
"""
