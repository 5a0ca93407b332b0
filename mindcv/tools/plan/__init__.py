"""Plan a training before the machine is rented."""
