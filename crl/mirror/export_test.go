package mirror

import "net/http"

// TestingOnlySign signs a request as the mirror would.
func TestingOnlySign(s *S3, request *http.Request, sum string) { s.sign(request, sum) }
