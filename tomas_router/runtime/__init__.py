"""What the machine has left and how long things take: timelines, bookings, latencies, windows."""
