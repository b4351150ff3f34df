package ceremony

// TestingOnlyRead is the reader of records.
func TestingOnlyRead(text []byte) ([]Step, string, error) { return read(text) }
