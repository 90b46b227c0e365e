package hl7v2

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"tombolo/fhir"
)

// Wire is how a feed's connections come about and who may be at their other end.
type Wire struct {
	// Address is where the feed connects to, mllp://host:port or mllps://host:port, instead of listening: for systems that serve their messages.
	Address string
	Folder  string // where relative paths of the files below begin

	// TLS needs Cert and Key; ClientCA makes it mutual: a sender without a certificate from it is not heard. All three are read again when they change.
	Cert, Key, ClientCA string
	// Peer binds the feed to one sender's certificate: a name in it, or "sha256:" and its fingerprint. "" takes any that ClientCA vouches for.
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

// path is where a file of the settings lies.
func (w *Wire) path(p string) string {
	if p == "" || filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(w.Folder, p)
}

// check refuses a wire over which anybody could send, or read along.
func (w *Wire) check(listen string) error {
	switch {
	case (w.Cert == "") != (w.Key == ""):
		return fhir.Errorf(fhir.Required, "TLS needs both tls-cert and tls-key").At("options.tls-cert")
	case w.ClientCA != "" && w.Cert == "":
		return fhir.Errorf(fhir.Required, "tls-client-ca is of use with tls-cert and tls-key only").At("options.tls-client-ca")
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
	var keys *keyring
	if w.Cert != "" {
		keys = &keyring{w: w, log: log}
		if _, err := keys.now(); err != nil {
			return nil, err
		}
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fhir.Errorf(fhir.Exception, "cannot listen for HL7 v2 at %s: %w", addr, err)
	}
	if keys != nil {
		ln = tls.NewListener(ln, &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return keys.now() }})
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
	keys := &keyring{w: w, log: log}
	if _, err := keys.now(); err != nil {
		return nil, err
	}
	return func(ctx context.Context) (net.Conn, error) {
		c, err := keys.now()
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
	if len(certs) == 0 || !names(certs[0], w.Peer) {
		return fhir.Errorf(fhir.Forbidden, "the certificate at the other end is not the one that this feed is bound to (tls-peer)")
	}
	return nil
}

// names reports whether a certificate is that of a peer. A common name counts: the certificates of hospitals' integration engines often have nothing else.
func names(c *x509.Certificate, peer string) bool {
	if print, ok := strings.CutPrefix(strings.ToLower(peer), "sha256:"); ok {
		sum := sha256.Sum256(c.Raw)
		return hex.EncodeToString(sum[:]) == strings.ReplaceAll(print, ":", "")
	}
	return strings.EqualFold(c.Subject.CommonName, peer) || slices.ContainsFunc(c.DNSNames, func(n string) bool { return strings.EqualFold(n, peer) }) ||
		slices.ContainsFunc(c.URIs, func(u *url.URL) bool { return u.String() == peer })
}

// mayHaveSent reports whether the feed takes messages in this sender's name, as MSH-3 and MSH-4 give it.
func (w *Wire) mayHaveSent(m *Message) bool {
	if len(w.Senders) == 0 || m == nil {
		return true
	}
	h := m.Header()
	return slices.Contains(w.Senders, h.Field(3).Comp(1).Text()+"^"+h.Field(4).Comp(1).Text())
}

// A keyring reads the certificate files, and reads them again when they have changed: a certificate is renewed without a restart. Files
// that have become wrong are told of, and the last right ones go on being used.
type keyring struct {
	w   *Wire
	log *slog.Logger

	mu     sync.Mutex
	looked time.Time
	state  string // sizes and times of the files
	config *tls.Config
}

// lookAgain is how often the files are looked at, at most.
const lookAgain = time.Second

func (k *keyring) now() (*tls.Config, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.config != nil && time.Since(k.looked) < lookAgain {
		return k.config, nil
	}
	k.looked = time.Now()
	state := k.look()
	if k.config != nil && state == k.state {
		return k.config, nil
	}
	k.state = state
	c, err := k.read()
	if err != nil && k.config == nil {
		return nil, err
	}
	if err != nil {
		k.log.Error("changed certificate files cannot be used; going on with the last ones", "err", err)
		return k.config, nil
	}
	k.config = c
	return c, nil
}

func (k *keyring) look() string {
	var b strings.Builder
	for _, p := range []string{k.w.Cert, k.w.Key, k.w.ClientCA} {
		if info, err := os.Stat(k.w.path(p)); err == nil {
			b.WriteString(info.ModTime().String() + " " + hex.EncodeToString([]byte{byte(info.Size()), byte(info.Size() >> 8)}) + "\n")
		}
	}
	return b.String()
}

func (k *keyring) read() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if k.w.Cert != "" {
		pair, err := tls.LoadX509KeyPair(k.w.path(k.w.Cert), k.w.path(k.w.Key))
		if err != nil {
			return nil, fhir.Errorf(fhir.Exception, "cannot read tls-cert and tls-key: %w", err).At("options.tls-cert")
		}
		c.Certificates = []tls.Certificate{pair}
	}
	if k.w.ClientCA != "" {
		pem, err := os.ReadFile(k.w.path(k.w.ClientCA))
		if err != nil {
			return nil, fhir.Errorf(fhir.Exception, "cannot read tls-client-ca: %w", err).At("options.tls-client-ca")
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fhir.Errorf(fhir.ValueError, "tls-client-ca holds no certificate in PEM").At("options.tls-client-ca")
		}
		c.ClientCAs, c.ClientAuth = pool, tls.RequireAndVerifyClientCert
		c.RootCAs = pool // of a connecting feed
	}
	if k.w.Address != "" {
		addr, _, err := k.w.target()
		if err != nil {
			return nil, err
		}
		c.ServerName, _, _ = net.SplitHostPort(addr)
	}
	return c, nil
}
