"""What all experiments share: cells and their rows, traces, statistics, tables, peers, stamps."""
