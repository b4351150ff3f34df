package deps

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// TestTableNamesWhatIsThere: a rule about a package that is gone, or was never made, misleads.
func TestTableNamesWhatIsThere(t *testing.T) {
	named := slices.Concat(testSupport, clocks)
	for _, r := range table {
		named = slices.Concat(named, r.packages, r.by)
	}
	for _, c := range confinements {
		named = slices.Concat(named, c.only, c.never)
	}
	for _, pattern := range named {
		dir := strings.TrimSuffix(strings.TrimSuffix(strings.TrimPrefix(pattern, except), "..."), "/")
		if _, err := os.Stat("../../" + dir); err != nil {
			t.Errorf("%q: %v", pattern, err)
		}
	}
}
