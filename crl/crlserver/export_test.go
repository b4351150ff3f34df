package crlserver

import "net/http"

// TestingOnlySign signs a request as the mirror would.
func TestingOnlySign(m Mirror, request *http.Request, sum string) { m.(*s3).sign(request, sum) }
