// Package openapi holds the description of the REST interface, made from the protobuf by scripts/generate.
package openapi

import _ "embed"

// JSON is an OpenAPI 2.0 document.
//
//go:embed openapi.swagger.json
var JSON []byte
