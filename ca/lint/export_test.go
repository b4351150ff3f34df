package lint

// TestingOnlyForget makes the next certificate run every lint.
func (r *Rules) TestingOnlyForget() { r.shapes.passed = nil }

// TestingOnlyShapes counts the shapes that are known to pass.
func (r *Rules) TestingOnlyShapes() int { return len(r.shapes.passed) }
