package lint

// Outcome is what a rule said. Zero is nothing.
type Outcome string

// The outcomes.
const (
	Passed        Outcome = "passed"
	NotApplicable Outcome = "not applicable" // the rule is about something else
	NotEffective  Outcome = "not in force"   // on the dates of what was checked
	Failed        Outcome = "failed"
	Waived        Outcome = "waived" // not asked, for the reason in Details
)

// Verdict is what one rule said of one thing.
type Verdict struct {
	Lint     string
	Source   string
	Citation string
	Outcome  Outcome
	Details  string
}

// Report is what every rule said, by name.
type Report []Verdict

// Count is how many rules had an outcome.
func (r Report) Count(outcome Outcome) (n int) {
	for _, v := range r {
		if v.Outcome == outcome {
			n++
		}
	}
	return n
}
