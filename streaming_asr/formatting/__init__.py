"""How finals are written: marks and capitals; numbers, dates and money in figures. Knows no audio and no sessions."""
