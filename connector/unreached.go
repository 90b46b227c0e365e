package connector

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"

	"tombolo/fhir"
)

// ErrUnsafe is the cause of an issue that says that a source was not spoken to, since a certificate was not accepted: its own by us, or ours by it. Trying again does
// not help, and somebody must see to it.
var ErrUnsafe = errors.New("a certificate was not accepted")

// Unreached says what an exchange with somebody else that failed on its way means, of type Timeout or Transient. It tells nothing of where they are: Go's own text
// quotes addresses, of which some hold a person's number. whom begins the sentence: "the practice's system".
func Unreached(ctx context.Context, whom string, err error) *fhir.Issue {
	var timeout interface{ Timeout() bool }
	var plain tls.RecordHeaderError
	fault := distrust(err)
	switch {
	case fault != "":
		return fhir.Errorf(fhir.Transient, "%s was not spoken to: %s: %w", whom, fault, ErrUnsafe)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(ctx.Err(), context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return fhir.Errorf(fhir.Timeout, "%s did not answer in time", whom)
	case errors.As(err, &plain), errors.Is(err, http.ErrSchemeMismatch):
		return fhir.Errorf(fhir.Transient, "%s does not speak TLS at its address: its address says https where http is spoken, or the port is another's", whom)
	case ctx.Err() != nil:
		return fhir.Errorf(fhir.Transient, "the question was withdrawn before %s had answered", whom)
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return fhir.Errorf(fhir.Transient, "%s broke off in the middle of its answer", whom)
	}
	return fhir.Errorf(fhir.Transient, "%s could not be reached, or broke the connection", whom)
}

// distrust is what is wrong with a certificate, and where that is mended; "" if nothing of the kind is.
func distrust(err error) string {
	var invalid x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var refused *net.OpError
	var verification *tls.CertificateVerificationError
	var sent *url.Error
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "its certificate is out of date, or this machine's clock is wrong"
	case errors.As(err, &unknown):
		return "its certificate is of an authority that is not trusted here (tls.ca of the region file)"
	case errors.As(err, &name):
		return "its certificate is of another name than its address"
	case errors.As(err, &invalid), errors.As(err, &verification):
		return "its certificate does not hold"
	case errors.As(err, &sent) && fhir.Is(err, fhir.Login): // what package pki says of one that is out of date or was taken back
		return "its certificate was taken back, or whether it was is not known (tls.crl of the region file)"
	case errors.As(err, &refused) && refused.Op == "remote error":
		return "it did not accept this node's certificate (tls.certificate of the region file), or how it speaks TLS"
	}
	return ""
}
