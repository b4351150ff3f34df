package openapi_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"signet.example/signet/api/openapi"
)

// operation is what the tests look at of one method of one path.
type operation struct {
	Summary   string
	Security  *[]any // nil: as the document says
	Produces  []string
	Responses map[string]struct {
		Schema struct {
			Ref    string `json:"$ref"`
			Type   string
			Format string
		}
	}
}

func operations(t *testing.T) map[string]map[string]operation {
	t.Helper()
	var document struct {
		Paths map[string]map[string]operation
	}
	if err := json.Unmarshal(openapi.JSON, &document); err != nil {
		t.Fatal(err)
	}
	if len(document.Paths) < 20 {
		t.Fatalf("the document has %d paths", len(document.Paths))
	}
	return document.Paths
}

// Pages made from the document show the summaries in one line each.
func TestSummaries(t *testing.T) {
	for path, methods := range operations(t) {
		for method, o := range methods {
			if o.Summary == "" || len(o.Summary) > 100 || strings.Contains(o.Summary, "\n") {
				t.Errorf("%s %s has the summary %q: end the first sentence of the rpc's comment, and set what follows off by an empty line", method, path, o.Summary)
			}
		}
	}
}

// What generated clients cannot guess: an answer that is not JSON, and a status that is not 200.
func TestAnswers(t *testing.T) {
	paths := operations(t)
	crl := paths["/v1/issuers/{issuer}/crl"]["get"]
	if schema := crl.Responses["200"].Schema; !slices.Equal(crl.Produces, []string{"application/pkix-crl"}) || schema.Type != "string" || schema.Format != "binary" {
		t.Errorf("a CRL is %q, %+v", crl.Produces, schema)
	}
	for path, want := range map[string]string{"/v1/certificates": "v1IssueCertificateResponse", "/v1/certificates:renew": "v1RenewCertificateResponse"} {
		if got := paths[path]["post"].Responses["202"].Schema.Ref; got != "#/definitions/"+want {
			t.Errorf("POST %s answers a request that waits with %q, want %s", path, got, want)
		}
	}
}

// A generated client sends no token, and asks for none, where none is needed.
func TestSecurity(t *testing.T) {
	for path, methods := range operations(t) {
		for method, o := range methods {
			if none := o.Security != nil && len(*o.Security) == 0; none != (path == "/v1/certificates:renew") || o.Security != nil && !none {
				t.Errorf("%s %s demands %v", method, path, o.Security)
			}
		}
	}
}
