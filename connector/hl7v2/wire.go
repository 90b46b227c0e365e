package hl7v2

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"tombolo/fhir"
	"tombolo/pki"
)

// Wire is how a feed's connections come about and who may be at their other end.
type Wire struct {
	// Address is where the feed connects to, mllp://host:port or mllps://host:port, instead of listening: for systems that serve their messages.
	Address string
	Folder  string // where relative paths of the files below begin

	// TLS needs Cert and Key; ClientCA makes it mutual: a sender without a certificate from it is not heard. They are read again when they change.
	Cert, Key, ClientCA string
	// CRL holds the revocation lists of ClientCA's authorities; with it, one without a list in date is not believed.
	CRL string
	// Peer binds the feed to one sender's certificate, as pki.Names takes it: a name in it, or "sha256:" and its fingerprint. "" takes any that ClientCA vouches for.
	Peer string
	// Senders binds the feed to the names that may stand in MSH-3^MSH-4; none: any.
	Senders []string
	// Insecure must be "acknowledged" for a feed to listen beyond this machine without mutual TLS.
	Insecure string
}

// set takes one setting of the wire; known is false if there is none of this name.
func (w *Wire) set(name, value string) (known bool, err error) {
	switch name {
	case "tls-cert":
		w.Cert = value
	case "tls-key":
		w.Key = value
	case "tls-client-ca":
		w.ClientCA = value
	case "tls-crl":
		w.CRL = value
	case "tls-peer":
		w.Peer = value
	case "senders":
		for s := range strings.SplitSeq(value, ",") {
			w.Senders = append(w.Senders, strings.TrimSpace(s))
		}
	case "insecure":
		if w.Insecure = value; value != "acknowledged" {
			err = fhir.Errorf(fhir.ValueError, `write "acknowledged" if patients' data is really to cross the network in clear, or leave it out`)
		}
	default:
		return false, nil
	}
	return true, err
}

// check refuses a wire over which anybody could send, or read along.
func (w *Wire) check(listen string) error {
	switch {
	case (w.Cert == "") != (w.Key == ""):
		return fhir.Errorf(fhir.Required, "TLS needs both tls-cert and tls-key").At("options.tls-cert")
	case w.ClientCA != "" && w.Cert == "":
		return fhir.Errorf(fhir.Required, "tls-client-ca is of use with tls-cert and tls-key only").At("options.tls-client-ca")
	case w.CRL != "" && w.ClientCA == "":
		return fhir.Errorf(fhir.Required, "tls-crl needs tls-client-ca, whose lists it holds").At("options.tls-crl")
	case w.Peer != "" && w.ClientCA == "" && w.Address == "":
		return fhir.Errorf(fhir.Required, "tls-peer needs tls-client-ca, which vouches for the certificate").At("options.tls-peer")
	case w.Address != "":
		_, _, err := w.target()
		return err
	case listen != "" && !onThisMachine(listen) && w.ClientCA == "" && w.Insecure != "acknowledged":
		return fhir.Errorf(fhir.Forbidden, "%s can be reached from elsewhere, and without mutual TLS anybody there may send and read: set tls-cert, tls-key and tls-client-ca, "+
			"or listen on 127.0.0.1 behind a tunnel, or write insecure: acknowledged", listen).At("listen")
	}
	return nil
}

// onThisMachine reports whether an address is of the loopback.
func onThisMachine(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// target is where a connecting feed connects to, and whether over TLS.
func (w *Wire) target() (addr string, secure bool, err error) {
	u, err := url.Parse(w.Address)
	if err != nil || u.Scheme != "mllp" && u.Scheme != "mllps" || u.Port() == "" || strings.Trim(u.Path, "/") != "" {
		return "", false, fhir.Errorf(fhir.ValueError, "write mllp://host:port, or mllps://host:port over TLS").At("address")
	}
	if secure = u.Scheme == "mllps"; !secure && !onThisMachine(u.Host) && w.Insecure != "acknowledged" {
		return "", false, fhir.Errorf(fhir.Forbidden, "patients' data would cross the network in clear: write mllps://, or insecure: acknowledged").At("address")
	}
	return u.Host, secure, nil
}

// listen opens the feed's listener.
func (w *Wire) listen(addr string, log *slog.Logger) (net.Listener, error) {
	var keys *pki.Keyring
	if w.Cert != "" {
		var err error
		if keys, err = w.keys(log); err != nil {
			return nil, err
		}
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fhir.Errorf(fhir.Exception, "cannot listen for HL7 v2 at %s: %w", addr, err)
	}
	if keys != nil {
		ln = tls.NewListener(pki.Lingering(ln), keys.Server())
	}
	return ln, nil
}

// dialler makes a connecting feed's connections.
func (w *Wire) dialler(log *slog.Logger) (func(context.Context) (net.Conn, error), error) {
	addr, secure, err := w.target()
	if err != nil {
		return nil, err
	}
	plain := net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}
	if !secure {
		return func(ctx context.Context) (net.Conn, error) { return plain.DialContext(ctx, "tcp", addr) }, nil
	}
	keys, err := w.keys(log)
	if err != nil {
		return nil, err
	}
	host, _, _ := net.SplitHostPort(addr) // target has read it
	return func(ctx context.Context) (net.Conn, error) {
		c, err := keys.Client(host)
		if err != nil {
			return nil, err
		}
		return (&tls.Dialer{NetDialer: &plain, Config: c}).DialContext(ctx, "tcp", addr)
	}, nil
}

// admit lets a connection in: the handshake in its time, and the certificate the one that the feed is bound to.
func (w *Wire) admit(ctx context.Context, conn net.Conn, within time.Duration) error {
	c, ok := conn.(*tls.Conn)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	if err := c.HandshakeContext(ctx); err != nil {
		return fhir.Errorf(fhir.Forbidden, "the TLS handshake failed: %w", err)
	}
	if w.Peer == "" {
		return nil
	}
	certs := c.ConnectionState().PeerCertificates
	if len(certs) == 0 || !pki.Names(certs[0], w.Peer) {
		return fhir.Errorf(fhir.Forbidden, "the certificate at the other end is not the one that this feed is bound to (tls-peer)")
	}
	return nil
}

// mayHaveSent reports whether the feed takes messages in this sender's name, as MSH-3 and MSH-4 give it.
func (w *Wire) mayHaveSent(m *Message) bool {
	if len(w.Senders) == 0 || m == nil {
		return true
	}
	h := m.Header()
	return slices.Contains(w.Senders, h.Field(3).Comp(1).Text()+"^"+h.Field(4).Comp(1).Text())
}

// keys are the certificate files, read again when they change.
func (w *Wire) keys(log *slog.Logger) (*pki.Keyring, error) {
	k, err := pki.Open(pki.Files{Folder: w.Folder, Cert: w.Cert, Key: w.Key, CA: w.ClientCA, CRL: w.CRL}, log, nil)
	if is := fhir.IssueOf(err); is != nil {
		return nil, is.At(map[string]string{"certificate": "options.tls-cert", "ca": "options.tls-client-ca", "crl": "options.tls-crl"}[is.Expression])
	}
	return k, err
}
