package rpc

// The border between protobuf and domain, for its tests.
var (
	CertificateTo    = certificateTo
	CredentialTo     = credentialTo
	AuditEventTo     = auditEventTo
	IssuerTo         = issuerTo
	StatusTo         = statusTo
	RoleTo           = roleTo
	IssueRequestFrom = issueRequestFrom
	FilterFrom       = filterFrom
	SpecFrom         = specFrom
	ReasonFrom       = reasonFrom
	RoleFrom         = roleFrom
	StandingFrom     = standingFrom
	WaitFrom         = waitFrom
	IssuerStates     = issuerStates
	IdentifiersTo    = identifiersTo
	PEMTo            = pemTo
	StatusError      = statusError
)
