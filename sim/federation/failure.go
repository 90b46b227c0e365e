// Package federation is what a record that is gathered across borders meets: regions of several sources each, one of them another vendor's shared
// record, one a nation with numbers of its own, and every way in which a source can fail, on real sockets.
//
// The way in which a source fails is chosen by the address at which it is asked, so that many gatherings can meet different failures at the same time.
package federation

import (
	"bytes"
	"compress/gzip"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// A Failure is a way in which a source fails.
type Failure string

// The failures.
const (
	None         Failure = ""
	Refuse       Failure = "refuse"        // nothing listens
	BlackHole    Failure = "black-hole"    // connections are neither taken nor refused
	Hang         Failure = "hang"          // headers, and then nothing
	Drip         Failure = "drip"          // a byte at a time
	Reset        Failure = "reset"         // the connection is reset
	Error500     Failure = "500"           // internal error
	TooMany      Failure = "429"           // too many requests
	BadJSON      Failure = "bad-json"      // what is no JSON
	Truncated    Failure = "truncated"     // half an answer
	Bomb         Failure = "gzip-bomb"     // a small body that unpacks without end
	WrongPatient Failure = "wrong-patient" // somebody else's record
	Expired      Failure = "expired-tls"   // a certificate that has run out
	Inward       Failure = "redirect"      // to an address inside
)

// Failures are all of them.
var Failures = []Failure{Refuse, BlackHole, Hang, Drip, Reset, Error500, TooMany, BadJSON, Truncated, Bomb, WrongPatient, Expired, Inward}

// Sockets are where sources are asked: one listener that fails as the path says, one whose certificate has run out, one that takes no connection, and
// an address at which nothing listens.
type Sockets struct {
	Inner *Trap // what nobody may be led to

	plain, expired *http.Server
	base, tlsBase  string
	hole           net.Listener
	plugs          []net.Conn
	refused        string
}

// A Trap counts who came where nobody may be led.
type Trap struct {
	server *http.Server
	addr   string
	came   chan struct{}
}

// Came reports whether anybody did.
func (t *Trap) Came() bool { return len(t.came) > 0 }

// Open opens the sockets over what sources answer when they do not fail: next gets the path without the failure, and in the header Wrong-Patient
// whether it is to answer about somebody else.
func Open(next http.Handler) (s *Sockets, err error) {
	s = &Sockets{Inner: &Trap{came: make(chan struct{}, 1000)}}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	serve := func(h http.Handler, config *tls.Config) (*http.Server, string, error) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, "", err
		}
		addr := l.Addr().String()
		if config != nil {
			l = tls.NewListener(l, config)
		}
		srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, ErrorLog: discard}
		go func() { _ = srv.Serve(l) }()
		return srv, addr, nil
	}
	var addr string
	if s.Inner.server, s.Inner.addr, err = serve(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { s.Inner.came <- struct{}{} }), nil); err != nil {
		return s, err
	}
	if s.plain, addr, err = serve(s.failing(next), nil); err != nil {
		return s, err
	}
	s.base = "http://" + addr
	cert, err := expired()
	if err != nil {
		return s, err
	}
	if s.expired, addr, err = serve(next, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}); err != nil {
		return s, err
	}
	s.tlsBase = "https://" + addr
	if s.hole, s.plugs, err = blackHole(); err != nil {
		return s, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return s, err
	}
	s.refused = l.Addr().String()
	return s, l.Close()
}

// Close closes all of it.
func (s *Sockets) Close() {
	for _, srv := range []*http.Server{s.plain, s.expired, s.Inner.server} {
		if srv != nil {
			_ = srv.Close()
		}
	}
	for _, c := range s.plugs {
		_ = c.Close()
	}
	if s.hole != nil {
		_ = s.hole.Close()
	}
}

// Address is where the source with a name is asked that fails so.
func (s *Sockets) Address(source string, f Failure) string {
	switch f {
	case Refuse:
		return "http://" + s.refused + "/" + source
	case BlackHole:
		return "http://" + s.hole.Addr().String() + "/" + source
	case Expired:
		return s.tlsBase + "/" + source
	case None:
		return s.base + "/ok/" + source
	}
	return s.base + "/" + string(f) + "/" + source
}

// failing fails as the first segment of the path says.
func (s *Sockets) failing(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mode, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		r.URL.Path = "/" + rest
		switch Failure(mode) {
		case Hang:
			swallow(r)
			w.Header().Set("Content-Type", "application/fhir+json")
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		case Drip:
			swallow(r)
			drip(w, r)
		case Reset:
			reset(w)
		case Error500:
			http.Error(w, "internal error", http.StatusInternalServerError)
		case TooMany:
			w.Header().Set("Retry-After", "30")
			http.Error(w, "slower, please", http.StatusTooManyRequests)
		case BadJSON:
			w.Header().Set("Content-Type", "application/fhir+json")
			_, _ = io.WriteString(w, "{\"resourceType\":\"Bundle\",\x00\xff]")
		case Truncated:
			next.ServeHTTP(&short{ResponseWriter: w, left: 120}, r)
			panic(http.ErrAbortHandler)
		case Bomb:
			swallow(r)
			bomb(w, r)
		case WrongPatient:
			r.Header.Set("Wrong-Patient", "yes")
			next.ServeHTTP(w, r)
		case Inward:
			http.Redirect(w, r, "http://"+s.Inner.addr+"/", http.StatusTemporaryRedirect)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// swallow reads the request: only a server that has notices its caller hanging up.
func swallow(r *http.Request) { _, _ = io.Copy(io.Discard, io.LimitReader(r.Body, 1<<20)) }

func drip(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/fhir+json")
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := io.WriteString(w, " "); err != nil {
			return
		}
		_ = http.NewResponseController(w).Flush()
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return
		}
	}
}

func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// bomb sends blanks that pack to a thousandth, for as long as anybody reads.
func bomb(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/fhir+json")
	w.Header().Set("Content-Encoding", "gzip")
	for r.Context().Err() == nil {
		if _, err := w.Write(packed()); err != nil {
			return
		}
	}
}

// packed is a mebibyte of blanks, packed once: a gzip stream is any number of such members, one after the other. RFC 1952 §2.2
var packed = sync.OnceValue(func() []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write(bytes.Repeat([]byte(" "), 1<<20))
	_ = z.Close()
	return b.Bytes()
})

type short struct {
	http.ResponseWriter
	left int
}

func (s *short) Write(p []byte) (int, error) {
	n := min(s.left, len(p))
	s.left -= n
	if n > 0 {
		if _, err := s.ResponseWriter.Write(p[:n]); err != nil {
			return 0, err
		}
		_ = http.NewResponseController(s.ResponseWriter).Flush()
	}
	return len(p), nil
}

// expired is a certificate that ran out yesterday.
func expired() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	now := time.Now()
	t := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "127.0.0.1"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(0, 0, -1)}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// blackHole is a listener whose queue is full: who connects is neither taken nor refused. Where the system lets in more than it was told to, the
// connections are at least never answered.
func blackHole() (net.Listener, []net.Conn, error) {
	l, err := listenUnqueued()
	if err != nil {
		return nil, nil, err
	}
	var plugs []net.Conn
	for range 8 {
		c, err := net.DialTimeout("tcp", l.Addr().String(), 200*time.Millisecond)
		if err != nil {
			var late net.Error
			if errors.As(err, &late) && late.Timeout() {
				return l, plugs, nil // full
			}
			return l, plugs, err
		}
		plugs = append(plugs, c)
	}
	return l, plugs, nil
}
