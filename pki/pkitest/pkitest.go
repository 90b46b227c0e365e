// Package pkitest makes authorities and certificates for tests, as real as OpenSSL's.
package pkitest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// An Authority issues certificates into a folder.
type Authority struct {
	Dir  string
	Cert *x509.Certificate
	key  *ecdsa.PrivateKey
	t    testing.TB
	now  time.Time
	next int64
	gone []x509.RevocationListEntry
}

// New makes an authority of a name. Its certificate lies in NAME.pem of the folder.
func New(t testing.TB, dir, name string, now time.Time) *Authority {
	t.Helper()
	a := &Authority{Dir: dir, t: t, now: now, next: 1}
	a.key = a.newKey()
	tpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: now.AddDate(-2, 0, 0), NotAfter: now.AddDate(10, 0, 0), IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: []byte(name)}
	a.Cert = a.sign(tpl, tpl, &a.key.PublicKey)
	a.write(name+".pem", "CERTIFICATE", a.Cert.Raw)
	return a
}

// A Pair is a certificate with its key, and the files in which they lie.
type Pair struct {
	Cert              *x509.Certificate
	CertFile, KeyFile string
}

// Issue makes NAME.pem and NAME.key in the folder, for both ends of a connection, in date unless change says otherwise.
func (a *Authority) Issue(name string, change func(*x509.Certificate)) Pair {
	a.t.Helper()
	a.next++
	tpl := &x509.Certificate{SerialNumber: big.NewInt(a.next), Subject: pkix.Name{CommonName: name}, NotBefore: a.now.AddDate(-1, 0, 0), NotAfter: a.now.AddDate(1, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		DNSNames: []string{name, "localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	if change != nil {
		change(tpl)
	}
	key := a.newKey()
	cert := a.sign(tpl, a.Cert, &key.PublicKey)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	return Pair{cert, a.write(name+".pem", "CERTIFICATE", cert.Raw), a.write(name+".key", "PRIVATE KEY", der)}
}

// Revoke takes certificates back and writes the list, valid for a week from then, into crl.pem of the folder.
func (a *Authority) Revoke(then time.Time, certs ...*x509.Certificate) string {
	a.t.Helper()
	for _, c := range certs {
		a.gone = append(a.gone, x509.RevocationListEntry{SerialNumber: c.SerialNumber, RevocationTime: then})
	}
	a.next++
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(a.next), ThisUpdate: then, NextUpdate: then.AddDate(0, 0, 7),
		RevokedCertificateEntries: a.gone}, a.Cert, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return a.write("crl.pem", "X509 CRL", der)
}

func (a *Authority) newKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	return key
}

func (a *Authority) sign(tpl, parent *x509.Certificate, pub *ecdsa.PublicKey) *x509.Certificate {
	a.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, tpl, parent, pub, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return c
}

// write replaces a file in one step, as whoever renews a certificate should.
func (a *Authority) write(name, typ string, der []byte) string {
	a.t.Helper()
	path := filepath.Join(a.Dir, name)
	if err := os.WriteFile(path+".new", pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: der}), 0o600); err != nil {
		a.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		a.t.Fatal(err)
	}
	return path
}
