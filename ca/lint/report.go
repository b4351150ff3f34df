package lint

// Outcome is the result of a rule. The zero value is none.
type Outcome string

// The outcomes.
const (
	Passed        Outcome = "passed"
	NotApplicable Outcome = "not applicable" // the rule is about something else
	NotEffective  Outcome = "not in force"   // at the dates in the input
	Failed        Outcome = "failed"
	Waived        Outcome = "waived" // not checked, for the reason in Details
)

// Verdict is the outcome of one rule for one input.
type Verdict struct {
	Lint     string
	Source   string
	Citation string
	Outcome  Outcome
	Details  string
}

// Report holds the verdicts of all rules, sorted by name.
type Report []Verdict

// Count returns the number of rules with an outcome.
func (r Report) Count(outcome Outcome) (n int) {
	for _, v := range r {
		if v.Outcome == outcome {
			n++
		}
	}
	return n
}
