"""Who is who: resolving, linking and merging, the cache in front of them and the history behind them."""
