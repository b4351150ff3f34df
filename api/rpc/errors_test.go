package rpc_test

import (
	"regexp"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"

	"signet.example/signet/api/rpc"
	"signet.example/signet/pki"
)

// A reason is in the spelling of AIP-193, "at most 63 characters and match [A-Z][A-Z0-9_]+[A-Z0-9]", and what to do
// stands beside it.
func TestReasonOfAnError(t *testing.T) {
	want := map[pki.Kind]string{pki.KindFailedPrecondition: "FAILED_PRECONDITION", pki.KindNotFound: "NOT_FOUND", pki.KindRefused: "REFUSED"}
	spelling := regexp.MustCompile(`^[A-Z][A-Z0-9_]+[A-Z0-9]$`)
	for kind := pki.KindInternal; kind <= pki.KindExhausted; kind++ {
		err := rpc.StatusError(pki.Errorf(kind, "try", "it failed").WithHint("do this"), "id")
		info, ok := status.Convert(err).Details()[0].(*errdetails.ErrorInfo)
		if !ok || !spelling.MatchString(info.GetReason()) || want[kind] != "" && info.GetReason() != want[kind] {
			t.Errorf("%v: %v", kind, info)
		}
		hidden := kind == pki.KindInternal || kind == pki.KindUnavailable // these have a sentence of their own
		if hint := info.GetMetadata()["hint"]; hint == "" || !hidden && hint != "do this" {
			t.Errorf("%v: the hint is %q", kind, hint)
		}
	}
}
