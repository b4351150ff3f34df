package agent

import (
	"errors"

	"signet.example/signet/ocsp"
	"signet.example/signet/pki"
)

// situation is what decides what is done about a certificate. Its zero value changes nothing.
type situation struct {
	files     reading
	standing  standing
	age       age  // of a certificate that can be read
	token     bool // the configuration names one: a certificate is to be had that is no renewal
	hookFails bool // for what an earlier attempt installed
	refused   bool // the server does not renew it: what proves the request proves nothing
}

// reading is what became of reading a certificate and its key.
type reading uint8

const (
	unreadable   reading = iota
	missing              // one of them
	ofOtherNames         // than the configuration wants
	inOrder
)

// standing is how a certificate stands, as far as anybody says.
type standing uint8

const (
	unanswered standing = iota // its responder does not tell, or may not be asked
	unasked                    // it names no responder
	good
	toBeReplaced // revoked for a reason that leaves it wanted
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

// action is what is done about a certificate at one look.
type action uint8

const (
	report  action = iota // what is wrong, which somebody else has to mend
	nothing               // all is well
	wait                  // for the hook: the attempt that it belongs to is not finished
	renew
	issue   // with the token
	replace // likewise, and say that it is revoked
)

// next says what is done about a certificate. It is this table, read from above:
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
// An empty cell is anything. A hook that fails is tried again, but not until the certificate ends: then the next one's hook
// tells of both. Whoever changed the names in the configuration wants another certificate, whatever became of this one.
// Where renewal is refused the names are not given any more by renewal, or the certificate is revoked: the token decides,
// unless the responder has still to say whether it was taken away.
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

// afterRefusal is the situation once the server has refused to renew a certificate, with what it said of that.
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
