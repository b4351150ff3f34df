package main

import (
	"strings"

	"signet.example/signet/api/client"
	"signet.example/signet/pki"
)

// findIssuer returns the issuer with an id, a label or a common name, or the only issuer with such a beginning of one
// of them.
func findIssuer(a *app, api *client.Client, name string) (pki.IssuerID, error) {
	if id, err := pki.ParseIssuerID(name); err == nil {
		return id, nil
	}
	issuers, err := api.Issuers(a.ctx)
	if err != nil {
		return pki.IssuerID{}, err
	}
	return chooseIssuer(issuers, name)
}

// findIssuerForGood is findIssuer for actions that cannot be undone: it does not accept the beginning of a name. If the
// command is repeated after its issuer is gone, it must not find another.
func findIssuerForGood(a *app, api *client.Client, name string) (pki.IssuerID, error) {
	id, err := findIssuer(a, api, name)
	if err != nil || id.String() == name {
		return id, err
	}
	issuer, err := api.Issuer(a.ctx, id)
	if err != nil {
		return pki.IssuerID{}, err
	}
	if issuer.Label != name && issuer.Subject != name && !strings.EqualFold(pki.CommonNameOf(issuer.Subject), name) {
		return pki.IssuerID{}, pki.Errorf(pki.KindNotFound, "find issuer", "there is no issuer %q, only %s (%s), which begins so", name, issuer.Label, id).InField("issuer").
			WithHint("this cannot be undone: write the whole label, name or id")
	}
	return id, nil
}

// optionalIssuer is findIssuer for a flag that may be absent.
func optionalIssuer(a *app, api *client.Client, name string) (pki.IssuerID, error) {
	if name == "" {
		return pki.IssuerID{}, nil
	}
	return findIssuer(a, api, name)
}

// minPrefix is the shortest beginning of an id that is looked up, in digits.
const minPrefix = 4

// chooseIssuer tries the narrowest match first; the first kind of match that finds an issuer decides.
func chooseIssuer(issuers []client.Issuer, name string) (pki.IssuerID, error) {
	const op = "find issuer"
	lower := strings.ToLower(name)
	questions := []func(client.Issuer) bool{
		func(i client.Issuer) bool { return i.Label == name },
		func(i client.Issuer) bool {
			return strings.EqualFold(pki.CommonNameOf(i.Subject), name) || i.Subject == name
		},
		func(i client.Issuer) bool {
			return strings.HasPrefix(i.Label, lower) || strings.HasPrefix(strings.ToLower(pki.CommonNameOf(i.Subject)), lower) ||
				len(lower) >= minPrefix && strings.HasPrefix(i.ID.String(), lower)
		},
	}
	for _, matches := range questions {
		var found []client.Issuer
		for _, i := range issuers {
			if name != "" && matches(i) {
				found = append(found, i)
			}
		}
		switch {
		case len(found) == 1:
			return found[0].ID, nil
		case len(found) > 1:
			var names []string
			for _, i := range found {
				names = append(names, i.Label+" ("+i.ID.String()+")")
			}
			return pki.IssuerID{}, pki.Errorf(pki.KindInvalid, op, "%q could be %s", name, sentence(names)).InField("issuer").
				WithHint("write more of it, or the whole id")
		}
	}
	return pki.IssuerID{}, pki.Errorf(pki.KindNotFound, op, "there is no issuer %q", name).InField("issuer").
		WithHint("`signet issuer list` shows ids, labels and names")
}
