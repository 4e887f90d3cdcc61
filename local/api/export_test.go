package api

// Sweep is what the collector does by the clock.
func (s *Server) Sweep() { (&collector{s: s}).forgetEvents() }
