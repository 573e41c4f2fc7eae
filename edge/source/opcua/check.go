package opcua

// Check fills in the defaults of a connection that stands in no file, and says
// what is wrong with it.
func (s *Security) Check() error { return s.validate() }
