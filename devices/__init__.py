"""What touches the instrument: protocols, drivers, simulator, acquisition worker, safety."""
