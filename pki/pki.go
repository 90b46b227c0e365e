// Package pki is what programs prove to each other with: the certificate that this end shows, the authorities whose certificates it
// believes, and what those authorities have taken back. All of it lies in files, which are read again when they change, so that a
// certificate is renewed or revoked without a restart.
package pki

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"tombolo/fhir"
)

// Files are where the certificates lie; each is PEM. Those that are not given are not used.
type Files struct {
	Folder string // where relative paths start
	Cert   string // the certificate that this end shows, with its chain
	Key    string // its private key
	CA     string // the authorities whose certificates the other end may have
	CRL    string // their revocation lists, PEM or DER. If given, an authority without a list in date is not believed
}

// A Keyring is the files as they now are. It may be used from many goroutines.
type Keyring struct {
	files Files
	log   *slog.Logger
	now   func() time.Time

	mu     sync.Mutex
	looked time.Time
	state  string // sizes and times of the files
	held   *held
}

type held struct {
	cert    *tls.Certificate
	pool    *x509.CertPool
	revoked map[string]*list // by the issuer's subject and key
}

// A list is what one authority has taken back.
type list struct {
	serials map[string]bool
	until   time.Time
}

// LookAgain is how often the files are looked at, at most.
const LookAgain = time.Second

// Open reads the files, or says which of them cannot be used. now may be nil.
func Open(f Files, log *slog.Logger, now func() time.Time) (*Keyring, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if now == nil {
		now = time.Now
	}
	if (f.Cert == "") != (f.Key == "") {
		return nil, fhir.Errorf(fhir.Required, "a certificate and its key are given together, or neither").At("certificate")
	}
	if f.CRL != "" && f.CA == "" {
		return nil, fhir.Errorf(fhir.Required, "revocation lists need the authorities that signed them").At("ca")
	}
	k := &Keyring{files: f, log: log, now: now}
	_, err := k.current()
	return k, err
}

// current is what the files hold. Files that have become wrong are told of, and the last right ones go on being used.
func (k *Keyring) current() (*held, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.held != nil && time.Since(k.looked) < LookAgain {
		return k.held, nil
	}
	k.looked = time.Now()
	state := k.look()
	if k.held != nil && state == k.state {
		return k.held, nil
	}
	k.state = state
	h, err := k.read()
	if err != nil && k.held == nil {
		return nil, err
	}
	if err != nil {
		k.log.Error("changed certificate files cannot be used; going on with the last ones", "error", err)
		return k.held, nil
	}
	k.held = h
	return h, nil
}

func (k *Keyring) path(p string) string {
	if p == "" || filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(k.files.Folder, p)
}

func (k *Keyring) look() string {
	var b strings.Builder
	for _, p := range []string{k.files.Cert, k.files.Key, k.files.CA, k.files.CRL} {
		if info, err := os.Stat(k.path(p)); p != "" && err == nil {
			fmt.Fprintln(&b, p, info.ModTime().UnixNano(), info.Size())
		}
	}
	return b.String()
}

func (k *Keyring) read() (*held, error) {
	h := &held{}
	if k.files.Cert != "" {
		pair, err := tls.LoadX509KeyPair(k.path(k.files.Cert), k.path(k.files.Key))
		if err != nil {
			return nil, fhir.Errorf(fhir.Exception, "cannot read the certificate %s with its key: %w", k.files.Cert, err).At("certificate")
		}
		h.cert = &pair
	}
	if k.files.CA == "" {
		return h, nil
	}
	authorities, err := k.authorities()
	if err != nil {
		return nil, err
	}
	h.pool = x509.NewCertPool()
	for _, c := range authorities {
		h.pool.AddCert(c)
	}
	if k.files.CRL == "" {
		return h, nil
	}
	h.revoked, err = k.lists(authorities)
	return h, err
}

func (k *Keyring) authorities() ([]*x509.Certificate, error) {
	data, err := os.ReadFile(k.path(k.files.CA))
	if err != nil {
		return nil, fhir.Errorf(fhir.Exception, "cannot read the authorities' certificates: %w", err).At("ca")
	}
	var out []*x509.Certificate
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fhir.Errorf(fhir.ValueError, "%s holds a certificate that cannot be read: %w", k.files.CA, err).At("ca")
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, fhir.Errorf(fhir.ValueError, "%s holds no certificate in PEM", k.files.CA).At("ca")
	}
	return out, nil
}

// lists reads the revocation lists, each held to the authority that signed it. RFC 5280 §5
func (k *Keyring) lists(authorities []*x509.Certificate) (map[string]*list, error) {
	data, err := os.ReadFile(k.path(k.files.CRL))
	if err != nil {
		return nil, fhir.Errorf(fhir.Exception, "cannot read the revocation lists: %w", err).At("crl")
	}
	var all [][]byte
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		all = append(all, block.Bytes)
	}
	if len(all) == 0 {
		all = [][]byte{data}
	}
	out := map[string]*list{}
	for _, der := range all {
		crl, err := x509.ParseRevocationList(der)
		if err != nil {
			return nil, fhir.Errorf(fhir.ValueError, "%s is no revocation list: %w", k.files.CRL, err).At("crl")
		}
		i := slices.IndexFunc(authorities, func(a *x509.Certificate) bool { return crl.CheckSignatureFrom(a) == nil })
		if i < 0 {
			return nil, fhir.Errorf(fhir.ValueError, "%s holds the list of %s, which none of the authorities has signed", k.files.CRL, crl.Issuer).At("crl")
		}
		l := &list{serials: map[string]bool{}, until: crl.NextUpdate}
		for _, e := range crl.RevokedCertificateEntries {
			l.serials[serial(e.SerialNumber)] = e.ReasonCode != 8 // removeFromCRL, RFC 5280 §5.3.1
		}
		key := issuerKey(authorities[i])
		if was := out[key]; was == nil || was.until.Before(l.until) {
			out[key] = l
		}
	}
	return out, nil
}

func serial(n *big.Int) string { return n.Text(16) }

// issuerKey tells authorities apart: two may bear one name.
func issuerKey(a *x509.Certificate) string {
	return string(a.RawSubject) + "\x00" + string(a.RawSubjectPublicKeyInfo)
}

// suites are those of TLS 1.2 with forward secrecy and authenticated encryption. NCSC, Using TLS to protect data; RFC 9325 §4.2
var suites = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
}

func base() *tls.Config { return &tls.Config{MinVersion: tls.VersionTLS12, CipherSuites: suites} }

// Server is the configuration of a listener, as the files are at each handshake. If there are authorities, nobody gets in without
// a certificate of theirs.
func (k *Keyring) Server(protocols ...string) *tls.Config {
	c := base()
	c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		h, err := k.current()
		if err != nil {
			return nil, err
		}
		c := base()
		c.NextProtos, c.Time = protocols, k.now
		if h.cert != nil {
			c.Certificates = []tls.Certificate{*h.cert}
		}
		if h.pool != nil {
			c.ClientCAs, c.ClientAuth = h.pool, tls.RequireAndVerifyClientCert
			c.VerifyConnection = func(s tls.ConnectionState) error { return k.Check(&s) }
		}
		return c, nil
	}
	return c
}

// Client is the configuration of a connection to host, as the files are now. Without authorities the machine's are believed.
func (k *Keyring) Client(host string) (*tls.Config, error) {
	h, err := k.current()
	if err != nil {
		return nil, err
	}
	c := base()
	c.ServerName, c.RootCAs, c.Time = host, h.pool, k.now
	if h.cert != nil {
		c.Certificates = []tls.Certificate{*h.cert}
	}
	if h.revoked != nil {
		c.VerifyConnection = func(s tls.ConnectionState) error { return k.Check(&s) }
	}
	return c, nil
}

// Check holds the other end's certificate to what is believed now: it must be in date and not taken back. TLS checks the rest once, when
// a connection begins; connections are kept for long, so a listener asks this at each request too.
func (k *Keyring) Check(s *tls.ConnectionState) error {
	h, err := k.current()
	if err != nil {
		return err
	}
	if s == nil || len(s.VerifiedChains) == 0 {
		return fhir.Errorf(fhir.Login, "the other end showed no certificate")
	}
	now := k.now()
	for _, c := range s.VerifiedChains[0] {
		if now.After(c.NotAfter) || now.Before(c.NotBefore) {
			return fhir.Errorf(fhir.Login, "the certificate of %s is out of date", c.Subject.CommonName)
		}
	}
	if h.revoked == nil {
		return nil
	}
	for _, chain := range s.VerifiedChains {
		if err := h.checkChain(chain, now); err != nil {
			return err
		}
	}
	return nil
}

// checkChain asks of each certificate whether its issuer has taken it back. What cannot be known of the last is refused: whoever gives
// revocation lists wants them to be obeyed.
func (h *held) checkChain(chain []*x509.Certificate, now time.Time) error {
	for i := range len(chain) - 1 {
		l := h.revoked[issuerKey(chain[i+1])]
		switch {
		case l == nil && i > 0:
		case l == nil:
			return fhir.Errorf(fhir.Login, "there is no revocation list of %s", chain[i+1].Subject.CommonName)
		case !l.until.IsZero() && now.After(l.until):
			return fhir.Errorf(fhir.Login, "the revocation list of %s is out of date since %s: fetch the new one", chain[i+1].Subject.CommonName, l.until.Format(time.RFC3339))
		case l.serials[serial(chain[i].SerialNumber)]:
			return fhir.Errorf(fhir.Login, "the certificate of %s has been revoked", chain[i].Subject.CommonName)
		}
	}
	return nil
}

// Names reports whether a certificate is the one that a text names: by its subject's common name, by a DNS name or URI among its
// alternative names, as sha256: with the fingerprint of the certificate, or as spki: with the SHA-256 of its public key, which
// outlives a renewal with the same key. A common name counts: the certificates of hospitals' systems often have nothing else.
func Names(c *x509.Certificate, text string) bool {
	for prefix, of := range map[string][]byte{"sha256:": c.Raw, "spki:": c.RawSubjectPublicKeyInfo} {
		if print, ok := strings.CutPrefix(strings.ToLower(text), prefix); ok {
			sum := sha256.Sum256(of)
			return hex.EncodeToString(sum[:]) == strings.ReplaceAll(print, ":", "")
		}
	}
	return text != "" && (strings.EqualFold(c.Subject.CommonName, text) || slices.ContainsFunc(c.DNSNames, func(n string) bool { return strings.EqualFold(n, text) }) ||
		slices.ContainsFunc(c.URIs, func(u *url.URL) bool { return u.String() == text }))
}

// Fingerprint is a certificate's SHA-256, as Names takes it.
func Fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return "sha256:" + hex.EncodeToString(sum[:])
}
