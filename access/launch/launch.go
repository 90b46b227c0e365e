// Package launch reads launches in context: another system opens the record of the patient whom its user has before them. A launch is
// signed or encrypted by a system of the region file, holds for minutes, and is used once. It says whose record, with a date of birth to hold
// against it, from where and by whom; it never stands readable in an address, where anybody could change whom it is about.
package launch

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"tombolo/access"
	"tombolo/access/token"
	"tombolo/fhir"
	"tombolo/region"
)

// Lifetime is how long a launch may hold.
const Lifetime = 5 * time.Minute

// A Launch is one that is believed.
type Launch struct {
	Launcher     region.Launcher
	Patient      fhir.Identifier
	BirthDate    string // YYYY-MM-DD
	Location     string // ODS code
	Practitioner string // the launching system's own id of its user
}

// A Reader reads launches. It may be used from many goroutines.
type Reader struct {
	m      *access.Manager
	secret func(place string) (string, error)
	keys   map[string]*token.Set // by launcher
}

// New makes a Reader; secret reads a secret from where the region file says that it is.
func New(m *access.Manager, secret func(place string) (string, error)) *Reader {
	r := &Reader{m: m, secret: secret, keys: map[string]*token.Set{}}
	for _, l := range m.Region().Identity.Launchers {
		if l.Keys != "" {
			r.keys[l.ID] = m.KeysAt(l.Keys)
		}
	}
	return r
}

// ErrPlain is a launch that anybody could have written or changed: it tells whose record in the address itself.
var ErrPlain = errors.New("a patient's number must not stand in an address: launch with enc= or token=, encrypted by the key that is shared with this service")

// Meddled is a launch that no mistake of a user's makes: it was changed on its way, was written by somebody else, or is about another person than the number that it names.
type Meddled struct {
	Launcher string // id; "" if it is not known
	Why      string
}

func (m Meddled) Error() string { return m.Why }

// forged is what is wrong with a statement of a launching system, which is meddling if its signature is somebody else's.
func forged(launcher string, err error) error {
	if errors.Is(err, token.ErrSignature) {
		return Meddled{launcher, err.Error()}
	}
	return err
}

// Plain reports whether the parameters of an address tell whose record is meant: by the names that launches elsewhere use, or by any NHS number.
func Plain(v url.Values) bool {
	for name, values := range v {
		switch strings.ToLower(name) {
		case "enc", "token", "launch", "iss":
			continue
		case "patient", "pat.nhs", "nhs", "nhsno", "nhsnumber", "nhs_number", "birthdate", "pat.dob":
			return true
		}
		for _, x := range values {
			if i := strings.LastIndexByte(x, '|'); i >= 0 {
				x = x[i+1:]
			}
			if _, err := fhir.ParseNHSNumber(x); err == nil {
				return true
			}
		}
	}
	return false
}

// Read believes a launch, once. The error is for the log, and holds nothing of the patient; whoever launched is told only that it was not taken.
//
//	enc=LAUNCHER|BASE64URL   the launch's parameters, as a query, under AES-256-GCM with the shared key: 12 bytes of nonce before the
//	                         ciphertext and its tag, the launcher's id as additional data (after SIDeR contextual launch)
//	token=JWE                the same as JSON under dir/A256GCM with the shared key and the launcher's id as kid; or a signed statement inside
//	token=JWS                a signed statement, in the body of a POST only, where it is not logged
func (r *Reader) Read(ctx context.Context, v url.Values, posted bool) (*Launch, error) {
	if len(v["enc"])+len(v["token"]) != 1 {
		return nil, errors.New("a launch has one enc or one token")
	}
	var l *Launch
	var once string
	var until time.Time
	var err error
	if enc := v.Get("enc"); enc != "" {
		l, once, until, err = r.query(enc)
	} else if raw := v.Get("token"); strings.Count(raw, ".") == 4 {
		l, once, until, err = r.encrypted(ctx, raw)
	} else if posted {
		l, once, until, err = r.signed(ctx, raw, "")
	} else {
		err = ErrPlain // a signed statement can be read by anybody
	}
	if err != nil {
		return nil, err
	}
	if err := l.check(); err != nil {
		return nil, err
	}
	first, err := r.m.State().Once(ctx, "launch "+l.Launcher.ID+" "+once, until.Add(token.Skew))
	if err != nil {
		return nil, err
	}
	if !first {
		return nil, errors.New("the launch was used before")
	}
	return l, nil
}

func (l *Launch) check() error {
	if l.Patient.System != fhir.SystemNHSNumber || l.Patient.Check() != nil {
		return errors.New("the launch does not say whose record, by a valid NHS number")
	}
	if _, err := time.Parse(time.DateOnly, l.BirthDate); err != nil {
		return errors.New("the launch has no date of birth to hold against the record")
	}
	if l.Location != l.Launcher.Organisation {
		return errors.New("the launch is from another organisation than the launching system's")
	}
	return nil
}

// key is the key that is shared with a launcher.
func (r *Reader) key(l region.Launcher) ([]byte, error) {
	if l.Key == "" {
		return nil, errors.New("no key is shared with this launching system")
	}
	text, err := r.secret(l.Key)
	if err != nil {
		return nil, err
	}
	key, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(key) != 32 {
		return nil, errors.New("the key of the launcher " + l.ID + " is not 32 bytes in base64")
	}
	return key, nil
}

func seal(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// Encrypt makes the enc of a launch, as launching systems do: for the simulated one, and as the format's definition.
func Encrypt(launcher string, key []byte, v url.Values) (string, error) {
	aead, err := seal(key)
	if err != nil {
		return "", err
	}
	nonce := make([]byte, aead.NonceSize())
	_, _ = rand.Read(nonce)
	return launcher + "|" + base64.RawURLEncoding.EncodeToString(aead.Seal(nonce, nonce, []byte(v.Encode()), []byte(launcher))), nil
}

func (r *Reader) query(enc string) (*Launch, string, time.Time, error) {
	fail := func(why string) (*Launch, string, time.Time, error) { return nil, "", time.Time{}, errors.New(why) }
	id, text, ok := strings.Cut(enc, "|")
	launcher, known := r.m.Region().Launcher(id)
	if !ok || !known {
		return fail("there is no such launching system")
	}
	if len(text) > token.MaxLength {
		return fail("the launch is too long")
	}
	key, err := r.key(launcher)
	if err != nil {
		return nil, "", time.Time{}, err
	}
	data, err := base64.RawURLEncoding.Strict().DecodeString(text)
	aead, kerr := seal(key)
	if err != nil || kerr != nil || len(data) <= aead.NonceSize() || strings.ContainsAny(text, "\r\n") {
		return fail("the launch cannot be read")
	}
	plain, err := aead.Open(nil, data[:aead.NonceSize()], data[aead.NonceSize():], []byte(id))
	if err != nil {
		return nil, "", time.Time{}, Meddled{id, "the launch is not encrypted by the key of that system, or was changed"}
	}
	v, err := url.ParseQuery(string(plain))
	if err != nil {
		return fail("the launch cannot be read")
	}
	for name, values := range v {
		if len(values) > 1 {
			return fail("a parameter of the launch stands twice")
		}
		if !slices.Contains([]string{"patient", "birthdate", "location", "practitioner", "exp", "nbf", "serviceId"}, name) {
			return fail("the launch has a parameter that is not understood")
		}
	}
	system, number, _ := strings.Cut(v.Get("patient"), "|")
	until, err := r.within(v.Get("exp"), v.Get("nbf"))
	return &Launch{Launcher: launcher, Patient: fhir.Identifier{System: system, Value: number}.Canonical(), BirthDate: v.Get("birthdate"), Location: code(v.Get("location")), Practitioner: code(v.Get("practitioner"))},
		string(data), until, err
}

// code is a value without the system before it.
func code(s string) string { return s[strings.LastIndexByte(s, '|')+1:] }

// within holds a launch to its times, seconds since 1970 or an RFC 3339 time: it holds for minutes.
func (r *Reader) within(exp, nbf string) (time.Time, error) {
	read := func(s string) (time.Time, bool) {
		if n, err := strconv.ParseInt(s, 10, 64); err == nil && n > 0 && n < 1e11 {
			return time.Unix(n, 0), true
		}
		t, err := time.Parse(time.RFC3339, s)
		return t, err == nil
	}
	now := r.m.Now()
	until, ok := read(exp)
	switch {
	case !ok:
		return until, errors.New("the launch does not say until when it holds (exp)")
	case !now.Before(until):
		return until, errors.New("the launch has expired")
	case until.Sub(now) > Lifetime+token.Skew:
		return until, errors.New("the launch holds for too long")
	}
	if nbf != "" {
		if from, ok := read(nbf); !ok || from.After(now.Add(token.Skew)) {
			return until, errors.New("the launch does not hold yet (nbf)")
		}
	}
	return until, nil
}

// What a launch says as JSON.
type claims struct {
	Patient      string      `json:"patient"`
	BirthDate    string      `json:"birthdate"`
	Location     string      `json:"location"`
	Practitioner string      `json:"practitioner"`
	ID           string      `json:"jti"`
	Expires      json.Number `json:"exp"`
	NotBefore    json.Number `json:"nbf"`
}

func (c claims) launch(l region.Launcher) *Launch {
	system, number, _ := strings.Cut(c.Patient, "|")
	return &Launch{Launcher: l, Patient: fhir.Identifier{System: system, Value: number}.Canonical(), BirthDate: c.BirthDate, Location: code(c.Location), Practitioner: code(c.Practitioner)}
}

// encrypted reads a JWE: by the key of the system that its kid names, never by one that it brings. RFC 7516
func (r *Reader) encrypted(ctx context.Context, raw string) (*Launch, string, time.Time, error) {
	fail := func(why string) (*Launch, string, time.Time, error) { return nil, "", time.Time{}, errors.New(why) }
	if len(raw) > token.MaxLength {
		return fail("the launch is too long")
	}
	obj, err := jose.ParseEncryptedCompact(raw, []jose.KeyAlgorithm{jose.DIRECT}, []jose.ContentEncryption{jose.A256GCM})
	if err != nil {
		return fail("the launch is not encrypted as agreed (dir, A256GCM)")
	}
	launcher, ok := r.m.Region().Launcher(obj.Header.KeyID)
	if !ok || obj.Header.JSONWebKey != nil || len(obj.Header.ExtraHeaders) > 2 {
		return fail("there is no such launching system")
	}
	for name := range obj.Header.ExtraHeaders {
		if name != "cty" && name != "typ" && name != "enc" {
			return fail("the launch's header has something that is not understood")
		}
	}
	key, err := r.key(launcher)
	if err != nil {
		return nil, "", time.Time{}, err
	}
	plain, err := obj.Decrypt(key)
	if err != nil {
		return nil, "", time.Time{}, Meddled{launcher.ID, "the launch is not encrypted by the key of that system, or was changed"}
	}
	if r.keys[launcher.ID] != nil { // who signs signs always
		return r.signed(ctx, string(plain), launcher.ID)
	}
	var c claims
	d := json.NewDecoder(strings.NewReader(string(plain)))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil || c.ID == "" {
		return fail("the launch cannot be read, or has no id (jti)")
	}
	until, err := r.within(c.Expires.String(), c.NotBefore.String())
	return c.launch(launcher), c.ID, until, err
}

// signed reads a statement signed by a launching system; of is the one that it must be, "" for any.
func (r *Reader) signed(ctx context.Context, raw, of string) (*Launch, string, time.Time, error) {
	fail := func(err error) (*Launch, string, time.Time, error) { return nil, "", time.Time{}, err }
	issuer, err := token.Issuer(raw)
	if err != nil {
		return fail(err)
	}
	i := slices.IndexFunc(r.m.Region().Identity.Launchers, func(l region.Launcher) bool {
		return l.Keys != "" && l.Issuer == issuer && (of == "" || l.ID == of)
	})
	if i < 0 {
		return fail(errors.New("there is no such launching system"))
	}
	l := r.m.Region().Identity.Launchers[i]
	c, err := token.Verify(ctx, raw, token.Rules{Issuer: issuer, Audience: []string{r.m.Issuer(), r.m.Issuer() + "/launch"}, Keys: r.keys[l.ID], Lifetime: Lifetime, ID: true, Now: r.m.Now()})
	if err != nil {
		return fail(forged(l.ID, err))
	}
	return claims{Patient: c.Text("patient"), BirthDate: c.Text("birthdate"), Location: c.Text("location"), Practitioner: c.Subject}.launch(l), c.ID, c.Expires, nil
}

// User is the user of this region who launched; ok is false if they must sign in.
func (r *Reader) User(l *Launch) (who access.Principal, ok bool, err error) {
	if len(l.Launcher.Users) == 0 {
		return who, false, nil
	}
	id, known := l.Launcher.Users[l.Practitioner]
	if !known {
		return who, false, errors.New("the launching user is nobody here")
	}
	s, err := r.m.As(id)
	if err != nil {
		return who, false, err
	}
	if s.Organisation != l.Launcher.Organisation {
		return who, false, errors.New("the launching user is of another organisation")
	}
	return s.Principal(), true, nil
}
