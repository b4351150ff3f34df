package server_test

import "strings"

// nssReaders. NSS knows no issuing distribution point and no deltas, and refuses lists that have their critical
// extensions, as RFC 5280, Section 5.2, demands: it is given complete lists.
var nssReaders = []reader{
	{name: "NSS: certutil -V, by complete lists of crlutil -I", chain: true, ask: func(j *judge, s *subject) opinion {
		if out, ok := j.nssWithLists(); !ok {
			return opinion{said: nothing, output: out}
		}
		j.must("certutil", "-A", "-d", "sql:nss-lists", "-n", s.name, "-t", ",,", "-i", s.name+".pem")
		return nssWord(j.run("certutil", "-V", "-n", s.name, "-u", "V", "-d", "sql:nss-lists"))
	}},
	{name: "NSS: crlutil -L", ask: func(j *judge, s *subject) opinion {
		if out, ok := j.nssWithLists(); !ok {
			return opinion{said: nothing, output: out}
		}
		out := j.must("crlutil", "-L", "-n", "issuing", "-d", "sql:nss-lists")
		// A serial number goes over two lines.
		octets := strings.ReplaceAll(strings.Join(strings.Fields(out), ""), ":", "")
		return opinion{said: wordIn(octets, true, "SerialNumber"+s.record.Serial.String()), output: out}
	}},
	{name: "NSS: vfychain -pp, OCSP", ocsp: true, ask: func(j *judge, s *subject) opinion {
		j.nssBare()
		return nssWord(j.run("vfychain", "-d", "sql:nss", "-pp", "-u", "1", "-g", "leaf", "-h", "requireFreshInfo", "-m", "ocsp", "-s", "failIfNoInfo", s.name+".der"))
	}},
	{name: "NSS: ocspclnt -V", ocsp: true, ask: func(j *judge, s *subject) opinion {
		j.nssBare()
		out, _ := j.run("ocspclnt", "-V", s.name+".der", "-u", "s", "-d", "sql:nss") // ends well whatever it says
		return nssWord(out, strings.Contains(out, "succeeded"))
	}},
	{name: "NSS: tstclnt, stapled", staples: true, ask: func(j *judge, s *subject) opinion {
		j.nssBare()
		out, status := j.exit("", "tstclnt", "-4", "-h", "localhost", "-p", s.port(s.stapled), "-d", "sql:nss", "-V", "tls1.2:tls1.3", "-Q", "-T", "-O", "-F", "-M", "1")
		// tstclnt -F: 0 fresh and good, 2 no information that counts, 3 fresh and revoked.
		said := nothing
		switch status {
		case 0:
			said = good
		case 3:
			said = revoked
		}
		return opinion{said: said, output: out}
	}},
	{name: "NSS: tstclnt, by complete lists", chain: true, ask: func(j *judge, s *subject) opinion {
		if out, ok := j.nssWithLists(); !ok {
			return opinion{said: nothing, output: out}
		}
		return nssWord(j.run("tstclnt", "-4", "-h", "localhost", "-p", s.port(s.bare), "-d", "sql:nss-lists", "-V", "tls1.2:tls1.3", "-Q"))
	}},
}

func nssWord(out string, ok bool) opinion {
	return opinion{said: wordIn(out, ok, "has been revoked"), output: out}
}

// nssDatabase makes a database that trusts the root and knows the issuing authority.
func (j *judge) nssDatabase(name string) {
	j.t.Helper()
	j.must("mkdir", name)
	j.must("certutil", "-N", "-d", "sql:"+name, "--empty-password")
	for nick, trust := range map[string]string{"root": "C,C,C", "issuing": ",,"} {
		j.must("certutil", "-A", "-d", "sql:"+name, "-n", nick, "-t", trust, "-i", nick+".pem")
	}
}

func (j *judge) nssBare() {
	j.t.Helper()
	if !j.exists("nss") {
		j.nssDatabase("nss")
	}
}

// nssWithLists puts the present complete lists into a database of their own, and sees shard and delta refused.
func (j *judge) nssWithLists() (string, bool) {
	j.t.Helper()
	if !j.exists("nss-lists") {
		j.nssDatabase("nss-lists")
	}
	for _, list := range []string{"shard.crl", "delta.crl"} {
		if out, ok := j.run("crlutil", "-I", "-i", list, "-d", "sql:nss-lists", "-t", "1"); ok {
			j.t.Errorf("NSS takes a list that is not complete for one that is:\n%s", out)
		}
	}
	for _, list := range []string{"complete.crl", "root.crl"} {
		out, ok := j.run("crlutil", "-I", "-i", list, "-d", "sql:nss-lists", "-t", "1")
		if !ok && !strings.Contains(out, "SEC_ERROR_OLD_CRL") {
			return out, false
		}
	}
	return "", true
}
