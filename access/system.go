package access

import (
	"crypto/x509"
	"net/http"
	"slices"
	"strings"
	"unicode"

	"tombolo/fhir"
	"tombolo/pki"
	"tombolo/policy"
	"tombolo/region"
)

// An Asserted is who a system says is asking. Nothing proves it but the system's own certificate: it is believed as far as the region
// file lets that system speak.
type Asserted struct {
	User, Name       string // the system's own id of the user, and their name
	Organisation     string // ODS code
	OrganisationName string
	Issuer           string // what the system calls itself in its token
	ASID             string // the accredited system id it sends from; "" if its protocol has none
	Trace            string // UUID of the request, if it has one
}

// System finds the system to which a request's client certificate belongs. TLS has held the certificate to the authorities, and whoever
// serves the listener holds it to its dates and the revocation lists at each request. A certificate that is nobody's, or more than one
// system's, is refused.
func (m *Manager) System(r *http.Request) (region.System, error) {
	cert := certificate(r)
	if cert == nil {
		return region.System{}, fhir.Errorf(fhir.Login, "systems prove who they are by a client certificate, and none was shown")
	}
	if nb, ok := m.neighbourOf(cert); ok {
		return region.System{}, fhir.Errorf(fhir.Login, "this certificate is that of the neighbour %s, which asks with a signed statement of which of its users asks", nb.ID)
	}
	var found []region.System
	for _, s := range m.opts.Region.Systems {
		if s.Certificate != "" && pki.Names(cert, s.Certificate) {
			found = append(found, s)
		}
	}
	switch len(found) {
	case 1:
		if !policy.Role(found[0].Role).Valid() {
			return region.System{}, fhir.Errorf(fhir.Login, "the system %s has no role in the region file", found[0].ID)
		}
		return found[0], nil
	case 0:
		return region.System{}, fhir.Errorf(fhir.Login, "this certificate is not one of the systems of this region")
	}
	return region.System{}, fhir.Errorf(fhir.Login, "this certificate is that of %s and of %s: the region file must name it for one of them", found[0].ID, found[1].ID)
}

// Proven reports, by an error of type Login, whose certificate is neither one system's nor one neighbour's. A neighbour is not answered for its certificate alone:
// Session asks for the statement of its user too.
func (m *Manager) Proven(r *http.Request) error {
	if cert := certificate(r); cert != nil {
		if _, ok := m.neighbourOf(cert); ok {
			return nil
		}
	}
	_, err := m.System(r)
	return err
}

// neighbourOf is the neighbour whose certificate it is.
func (m *Manager) neighbourOf(cert *x509.Certificate) (region.Neighbour, bool) {
	for _, nb := range m.opts.Region.Neighbours {
		if nb.Certificate != "" && pki.Names(cert, nb.Certificate) {
			return nb, true
		}
	}
	return region.Neighbour{}, false
}

// ownCertificate holds what a neighbour has signed to the certificate with which it comes: its own, if the region file names one, and never another neighbour's.
// A stolen statement is of no use then without the key of the certificate as well.
func (m *Manager) ownCertificate(nb region.Neighbour, cert *x509.Certificate) error {
	switch {
	case cert == nil && nb.Certificate != "":
		return fhir.Errorf(fhir.Login, "an assertion came without the certificate of this neighbour")
	case cert == nil:
		return nil
	case nb.Certificate != "" && !pki.Names(cert, nb.Certificate):
		return fhir.Errorf(fhir.Login, "an assertion came with a certificate that is not this neighbour's: %s", pki.Fingerprint(cert))
	}
	for _, other := range m.opts.Region.Neighbours {
		if other.ID != nb.ID && other.Certificate != "" && pki.Names(cert, other.Certificate) {
			return fhir.Errorf(fhir.Login, "an assertion came with the certificate of %s", other.ID)
		}
	}
	return nil
}

// certificate is what the other end of a request has shown and TLS has verified; nil if it has shown none.
func certificate(r *http.Request) *x509.Certificate {
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 || len(r.TLS.VerifiedChains[0]) == 0 {
		return nil
	}
	return r.TLS.VerifiedChains[0][0]
}

// BySystem makes the session of a request that a system makes for itself, proven by its certificate.
func (m *Manager) BySystem(r *http.Request) (*Session, error) {
	sys, err := m.System(r)
	if err != nil {
		return nil, err
	}
	s := m.session(Principal{User: sys.ID, Name: m.nameOf(sys), Role: sys.Role, Organisation: sys.Organisation, Service: true})
	return s, m.came(s, r)
}

// Vouched makes the session of a user for whom a system vouches: the certificate proves the system, and what it says of the user must not
// go beyond what the region file lets it say. An error is of type Login if the system is not proven, Forbidden if it says too much.
func (m *Manager) Vouched(r *http.Request, a Asserted) (*Session, error) {
	sys, err := m.System(r)
	if err != nil {
		return nil, err
	}
	switch {
	case a.User == "" || a.Name == "":
		return nil, fhir.Errorf(fhir.Forbidden, "a system says which user is asking, by id and name").From(sys.ID)
	case a.Organisation != sys.Organisation && !slices.Contains(sys.AsksFor, a.Organisation):
		return nil, fhir.Errorf(fhir.Forbidden, "this certificate's system does not speak for the organisation that its request names").From(sys.ID)
	case sys.Issuer != "" && strings.TrimRight(a.Issuer, "/") != strings.TrimRight(sys.Issuer, "/"):
		return nil, fhir.Errorf(fhir.Forbidden, "this certificate's system is not the issuer that its token names").From(sys.ID)
	case sys.ASID != "" && a.ASID != "" && a.ASID != sys.ASID:
		return nil, fhir.Errorf(fhir.Forbidden, "this certificate's system is not the one that its request says it comes from").From(sys.ID)
	}
	// The id is the system's own: it must not be taken for that of a user of this region, nor of another system.
	s := m.session(Principal{User: sys.ID + "/" + asserted(a.User), Name: asserted(a.Name) + ", by " + m.nameOf(sys), Role: sys.Role, Organisation: a.Organisation})
	if s.OrganisationName == "" {
		s.OrganisationName = asserted(a.OrganisationName)
	}
	if a.Trace != "" {
		s.Trace = asserted(a.Trace)
	}
	return s, m.came(s, r)
}

func (m *Manager) nameOf(s region.System) string {
	if s.Name != "" {
		return s.Name
	}
	if o, ok := m.opts.Region.Organisation(s.Organisation); ok {
		return o.Name + " (" + s.ID + ")"
	}
	return s.ID
}

// asserted is a text that others give for the audit log, of a length and of characters that may stand there.
func asserted(s string) string {
	s = strings.Map(func(c rune) rune {
		if !unicode.IsPrint(c) {
			return -1
		}
		return c
	}, s)
	if runes := []rune(s); len(runes) > 80 {
		s = string(runes[:80])
	}
	return s
}
