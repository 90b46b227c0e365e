package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"tombolo/access"
	"tombolo/api/gpconnect"
	"tombolo/api/gpconnect/gathered"
	"tombolo/audit"
	"tombolo/connector"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/gather"
	"tombolo/pki"
	"tombolo/region"
)

// A served is one listener with what answers on it.
type served struct {
	listener net.Listener
	server   *http.Server
}

// listen takes an address now, so that a taken one is noticed now. keys may be nil: no TLS.
func (n *Node) listen(flag, addr string, h http.Handler, keys *pki.Keyring) (served, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return served{}, fmt.Errorf("listen on %s: %w; is another program there? Choose another with --%s", addr, err, flag)
	}
	s := &http.Server{Handler: connector.Contained(n.c.Logger, n.answers(h)), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(n.c.Logger.Handler(), slog.LevelWarn)}
	if keys != nil {
		l, s.TLSConfig = pki.Lingering(l), keys.Server("h2", "http/1.1")
	}
	return served{l, s}, nil
}

func (s served) serve() error {
	if s.server.TLSConfig != nil {
		return s.server.ServeTLS(s.listener, "", "")
	}
	return s.server.Serve(s.listener)
}

// listeners takes the addresses of the pages and the API, and of what systems ask.
func (n *Node) listeners() error {
	if n.c.Listen != "" {
		h, err := n.handler()
		if err != nil {
			return err
		}
		var keys *pki.Keyring
		if n.c.TLS.Cert != "" { // people have no certificates
			if keys, err = pki.Open(pki.Files{Cert: n.c.TLS.Cert, Key: n.c.TLS.Key}, n.c.Logger, nil); err != nil {
				return err
			}
		}
		if n.pages, err = n.listen("listen", n.c.Listen, h, keys); err != nil {
			return err
		}
	}
	if n.c.Systems == "" {
		return nil
	}
	if n.c.TLS.Cert == "" || n.c.TLS.CA == "" {
		return errors.New("systems are known by their certificates: give --tls-cert, --tls-key and --client-ca")
	}
	keys, err := pki.Open(n.c.TLS, n.c.Logger, n.c.Now)
	if err != nil {
		return err
	}
	h, err := n.systemsHandler(keys)
	if err != nil {
		return err
	}
	n.systems, err = n.listen("systems", n.c.Systems, h, keys)
	return err
}

// GPConnectRoot is where the record is GP Connect, below the address of the listener for systems.
//
// GP Connect 1.6 development_general_api_guidance.html#service-root-url-versioning
func GPConnectRoot(r *region.Region) string {
	return "/" + r.GPConnect.Organisation + "/STU3/1/gpconnect/structured/fhir"
}

// systemsHandler is what systems ask: the FHIR API, each acting for itself, and GP Connect, for the users for whom they vouch.
func (n *Node) systemsHandler(keys *pki.Keyring) (http.Handler, error) {
	mux := http.NewServeMux()
	mux.Handle("/fhir/", n.proven(n.fhirAPI()))
	mux.Handle("/identity/", n.proven(n.fhirAPI()))
	mux.Handle("/directory/", n.proven(n.fhirAPI()))
	if n.heads != nil { // a neighbour that is asked here is witnessed here
		mux.Handle("/audit/", n.proven(n.heads))
	}
	if err := n.locatorFaces(mux); err != nil {
		return nil, err
	}
	if g := n.c.Region.GPConnect; g.Organisation != "" {
		root, base := GPConnectRoot(n.c.Region), ""
		if g.Address != "" {
			base = strings.TrimRight(g.Address, "/") + root
		}
		face, err := gpconnect.New(gpconnect.Options{Admit: gathered.Admit(byNumber{n.Gather}, n.vouched, n.c.Now), Base: base, ASID: g.ASID,
			Publisher: n.c.Region.Name, Version: n.c.Version, Now: n.c.Now, Logger: n.c.Logger})
		if err != nil {
			return nil, err
		}
		mux.Handle(root+"/", http.StripPrefix(root, face))
	}
	return n.stillBelieved(keys, mux), nil
}

// stillBelieved holds the certificate of a request to what is believed now: the connection may be from before it was revoked.
func (n *Node) stillBelieved(keys *pki.Keyring, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := keys.Check(r.TLS); err != nil {
			n.turnedAway(r, "", err)
			w.Header().Set("Connection", "close")
			refuse(w, err)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// proven lets a request pass whose certificate is a system's or a neighbour's.
func (n *Node) proven(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := n.Access.Proven(r); err != nil {
			n.turnedAway(r, "", err)
			refuse(w, err)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func refuse(w http.ResponseWriter, err error) {
	w.Header().Set("Content-Type", "application/fhir+json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusForbidden)
	_, _ = w.Write(fhir.Outcome(fhir.IssueOf(err)).Raw())
}

// vouched is the session of a GP Connect request.
func (n *Node) vouched(r *http.Request, who gpconnect.Caller) (*access.Session, error) {
	s, err := n.Access.Vouched(r, access.Asserted{User: who.UserID, Name: who.UserName, Organisation: who.OrganisationODS, OrganisationName: who.OrgName,
		Issuer: who.Issuer, ASID: who.ASID, Trace: who.TraceID})
	if err != nil {
		n.turnedAway(r, who.TraceID, err)
	}
	return s, err
}

// turnedAway remembers who was refused at the door for systems, and why. Nothing was asked of anybody's record yet.
func (n *Node) turnedAway(r *http.Request, trace string, why error) {
	agent := audit.Agent{User: "certificate", Name: "a system without a certificate of the region"}
	agent.Address, _, _ = net.SplitHostPort(r.RemoteAddr)
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		c := r.TLS.PeerCertificates[0]
		agent.User, agent.Name = pki.Fingerprint(c), strconv.QuoteToASCII(c.Subject.CommonName)
	}
	if sys, err := n.Access.System(r); err == nil {
		agent.User, agent.Name, agent.Organisation = sys.ID, sys.ID, sys.Organisation
	}
	if _, err := n.Audit.Append(r.Context(), audit.Event{Kind: audit.Denied, Agent: agent, Trace: trace, Outcome: "4", What: []string{"refused: " + why.Error()}}); err != nil {
		n.c.Logger.Error("a system was refused, and that could not be audited", "system", agent.User, "error", err)
	}
	n.c.Logger.Warn("a system was refused", "system", agent.User, "certificate", agent.Name, "why", why)
}

// byNumber opens records by NHS number, in the one way in which everybody finds people.
type byNumber struct{ g *gather.Gatherer }

func (b byNumber) Record(ctx context.Context, s *access.Session, nhs fhir.NHSNumber, headings []dataset.Heading) (*gather.Record, error) {
	id, err := b.g.Find(ctx, s, fhir.Identifier{System: fhir.SystemNHSNumber, Value: nhs.Digits()})
	if err != nil {
		return nil, err
	}
	return b.g.Record(ctx, s, id, gather.Ask{Headings: slices.Clone(headings), Query: "$gpc.getstructuredrecord"})
}

// keys are the certificates that the region file gives for connections that we make.
func (n *Node) keys(t region.TLS) (*pki.Keyring, error) {
	return pki.Open(pki.Files{Folder: n.c.Folder, Cert: t.Certificate, Key: t.Key, CA: t.CA, CRL: t.CRL}, n.c.Logger, nil)
}

// asking is the HTTP client of one source, with the certificates that the region file gives for it.
func (n *Node) asking(t region.TLS) (*http.Client, error) {
	if t == (region.TLS{}) {
		return n.client(), nil
	}
	keys, err := n.keys(t)
	if err != nil {
		return nil, err
	}
	by := transport()
	by.DialTLSContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		config, err := keys.Client(host)
		if err != nil {
			return nil, err
		}
		return (&tls.Dialer{NetDialer: guarded(dialer(), addr), Config: config}).DialContext(ctx, network, addr)
	}
	return n.through(by), nil
}

// SystemsAddr is the address of the listener for systems; "" if there is none.
func (n *Node) SystemsAddr() string { return n.systems.addr() }

func (s served) addr() string {
	if s.listener == nil {
		return ""
	}
	return s.listener.Addr().String()
}
