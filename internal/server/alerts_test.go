package server_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestAlertsNameMetrics holds the alert rules of the documents to the metrics that a server exports.
func TestAlertsNameMetrics(t *testing.T) {
	rules, err := os.ReadFile("../../docs/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("metrics.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range regexp.MustCompile(`signet_[a-z_]+`).FindAllString(string(rules), -1) {
		if !strings.Contains(string(source), `describe("`+strings.TrimPrefix(name, "signet_")+`"`) {
			t.Errorf("docs/alerts.yaml speaks of %s, which no server exports", name)
		}
	}
}
