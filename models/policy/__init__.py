"""Which eligible ad is shown, at what price: rules, auction, pacing, diversity."""
