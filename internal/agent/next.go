package agent

import (
	"errors"

	"signet.example/signet/ocsp"
	"signet.example/signet/pki"
)

// situation holds the facts that next decides by. Its zero value leads to report, which changes nothing.
type situation struct {
	files     reading
	standing  standing
	age       age  // zero if the certificate cannot be read
	token     bool // the configuration names one, so a certificate can be issued without renewal
	hookFails bool // the hook of an earlier attempt, whose certificate is installed
	refused   bool // the server does not accept the certificate as proof of a renewal
}

// reading is the outcome of reading a certificate and its key.
type reading uint8

const (
	unreadable   reading = iota
	missing              // one of the files
	ofOtherNames         // than those in the configuration
	inOrder
)

// standing is the revocation status of a certificate, as far as it is known.
type standing uint8

const (
	unanswered standing = iota // its responder does not say, or may not be asked
	unasked                    // it names no responder
	good
	toBeReplaced // revoked for a reason for which another may be had
	takenAway    // revoked for another reason, or on hold
)

// age is the part of its life that a certificate is in.
type age uint8

const (
	early age = iota
	due       // for renewal
	late      // half of the time for a renewal is over
	expired
)

// action is what the agent does about a certificate at one look.
type action uint8

const (
	report  action = iota // the error, which a person has to mend
	nothing               // all is well
	wait                  // for the hook to succeed, which finishes its attempt
	renew
	issue   // with the token
	replace // with the token, and report that it is revoked
)

// next decides what is done about a certificate, by the first row of this table that matches:
//
//	hook    files           standing                age             token  refused  action
//	fails   unreadable                                                              wait
//	fails   missing                                                                 wait
//	fails   the other two   but with a token not    early, due                      wait
//	                        toBeReplaced
//	        unreadable                                                              report
//	        missing         takenAway                                               report
//	        missing         toBeReplaced                            no              report
//	        missing                                                                 issue
//	        ofOtherNames                                                            issue
//	        inOrder         takenAway                                               report
//	        inOrder         toBeReplaced                            no              report
//	        inOrder         toBeReplaced                            yes             replace
//	        inOrder                                 expired                         issue
//	        inOrder                                 early                           nothing
//	        inOrder                                                        no       renew
//	        inOrder                                                 no     yes      report
//	        inOrder         unanswered                              yes    yes      report
//	        inOrder         unasked, good                           yes    yes      issue
//
// An empty cell matches anything. A failing hook is tried again, but not until the certificate ends: from late on, the
// certificate is renewed, and the hook of the new one serves for both. Changed names in the configuration ask for another
// certificate, whatever the standing of this one. A refused renewal means that the names are no longer given by renewal,
// or that the certificate is revoked. Then the token decides, unless the responder has yet to say whether the certificate
// was taken away.
func next(in situation) action {
	mayReplace := in.standing == toBeReplaced && in.token
	ended := in.standing == toBeReplaced || in.standing == takenAway
	switch {
	case in.hookFails && (in.files == unreadable || in.files == missing || !mayReplace && in.age < late):
		return wait
	case in.files == unreadable:
		return report
	case in.files == ofOtherNames:
		return issue
	case ended && !mayReplace:
		return report
	case in.files == missing:
		return issue
	case ended:
		return replace
	case in.age == expired:
		return issue
	case in.age == early:
		return nothing
	case !in.refused:
		return renew
	case in.token && in.standing != unanswered:
		return issue
	}
	return report
}

// afterRefusal returns the situation after the server refused a renewal with err, and the revocation that err states
// (zero if it states none).
func (in situation) afterRefusal(err error) (situation, ocsp.Result) {
	in.refused = true
	why, known := errors.AsType[*pki.Revoked](err)
	if !known {
		return in, ocsp.Result{}
	}
	said := ocsp.Result{Status: pki.StatusRevoked, Reason: why.Reason}
	in.standing = standingOf(said)
	return in, said
}
