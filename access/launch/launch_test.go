package launch_test

import (
	"encoding/base64"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"tombolo/access"
	"tombolo/access/launch"
	"tombolo/access/token/tokentest"
	"tombolo/fhir"
	"tombolo/region"
)

var (
	now    = time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
	shared = []byte("0123456789abcdef0123456789abcdef")
	number = "9990000107"
)

func reader(t testing.TB, key jose.JSONWebKey) *launch.Reader {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(path, fhir.JSON(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{key.Public()}}), 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := access.New(access.Options{Now: func() time.Time { return now }, Issuer: func() string { return "https://node.example" }, Region: &region.Region{
		Users: []region.User{{ID: "doctor", Name: "Dr Ade", Role: "hospital-doctor", Organisation: "RX1"}, {ID: "gp", Name: "Dr Marsh", Role: "gp", Organisation: "M85001"}},
		Identity: region.Identity{Launchers: []region.Launcher{
			{ID: "epr", Organisation: "RX1", Key: "EPR_KEY", Users: map[string]string{"ADEF": "doctor", "MARSHH": "gp"}},
			{ID: "signer", Organisation: "RX1", Key: "EPR_KEY", Keys: path, Issuer: "https://epr.example"},
			{ID: "other", Organisation: "RX2", Key: "OTHER_KEY"},
		}}}})
	if err != nil {
		t.Fatal(err)
	}
	return launch.New(m, func(place string) (string, error) {
		if place == "OTHER_KEY" {
			return base64.StdEncoding.EncodeToString([]byte("another key of 32 bytes.........")), nil
		}
		return base64.StdEncoding.EncodeToString(shared), nil
	})
}

func params(change ...string) url.Values {
	v := url.Values{"patient": {fhir.SystemNHSNumber + "|" + number}, "birthdate": {"1948-03-12"}, "location": {fhir.SystemODS + "|RX1"}, "practitioner": {"https://epr.example/users|ADEF"},
		"exp": {strconv.FormatInt(now.Add(2*time.Minute).Unix(), 10)}}
	for i := 0; i < len(change); i += 2 {
		if v.Set(change[i], change[i+1]); change[i+1] == "" {
			v.Del(change[i])
		}
	}
	return v
}

func enc(t testing.TB, launcher string, key []byte, v url.Values) url.Values {
	t.Helper()
	s, err := launch.Encrypt(launcher, key, v)
	if err != nil {
		t.Fatal(err)
	}
	return url.Values{"enc": {s}}
}

func TestALaunchIsReadOnceAndSaysWhoseRecordItIs(t *testing.T) {
	r := reader(t, tokentest.NewKey(t, "k"))
	v := enc(t, "epr", shared, params())
	if strings.Contains(v.Encode(), number) {
		t.Fatal("the number stands in the address")
	}
	l, err := r.Read(t.Context(), v, false)
	if err != nil || l.Patient.Value != number || l.BirthDate != "1948-03-12" || l.Location != "RX1" || l.Practitioner != "ADEF" {
		t.Fatalf("%+v %v", l, err)
	}
	who, ok, err := r.User(l)
	if err != nil || !ok || who.User != "doctor" {
		t.Errorf("%+v %v", who, err)
	}
	if _, err := r.Read(t.Context(), v, false); err == nil {
		t.Error("the launch was used twice")
	}
}

func TestOfAThousandWhoReplayALaunchOneIsLetIn(t *testing.T) {
	r := reader(t, tokentest.NewKey(t, "k"))
	v := enc(t, "epr", shared, params())
	var mu sync.Mutex
	var wg sync.WaitGroup
	in := 0
	for range 20 {
		wg.Go(func() {
			for range 50 {
				if _, err := r.Read(t.Context(), v, false); err == nil {
					mu.Lock()
					in++
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	if in != 1 {
		t.Errorf("%d were let in", in)
	}
}

func TestLaunchesThatAreNotToBeBelieved(t *testing.T) {
	r := reader(t, tokentest.NewKey(t, "k"))
	at := func(d time.Duration) string { return strconv.FormatInt(now.Add(d).Unix(), 10) }
	for name, v := range map[string]url.Values{
		"nothing": {}, "two": {"enc": {"epr|x", "epr|y"}}, "enc and token": {"enc": {"epr|x"}, "token": {"x"}}, "nobody's": enc(t, "nobody", shared, params()),
		"another's key": enc(t, "epr", []byte("another key of 32 bytes........."), params()), "under another's name": {"enc": {strings.Replace(enc(t, "epr", shared, params()).Get("enc"), "epr|", "signer|", 1)}},
		"expired": enc(t, "epr", shared, params("exp", at(-time.Second))), "no expiry": enc(t, "epr", shared, params("exp", "")), "holds for a day": enc(t, "epr", shared, params("exp", at(24*time.Hour))),
		"expiry that is no time": enc(t, "epr", shared, params("exp", "soon")), "not yet": enc(t, "epr", shared, params("nbf", at(time.Hour))), "no birth date": enc(t, "epr", shared, params("birthdate", "")),
		"half a birth date": enc(t, "epr", shared, params("birthdate", "1948-03")), "no patient": enc(t, "epr", shared, params("patient", "")), "a number that is none": enc(t, "epr", shared, params("patient", fhir.SystemNHSNumber+"|9990000108")),
		"another kind of number": enc(t, "epr", shared, params("patient", "https://x.example|"+number)), "no location": enc(t, "epr", shared, params("location", "")), "another's location": enc(t, "epr", shared, params("location", "RX2")),
		"more": enc(t, "epr", shared, params("role", "gp")), "patient twice": enc(t, "epr", shared, url.Values{"patient": {fhir.SystemNHSNumber + "|" + number, "x"}, "birthdate": {"1948-03-12"}, "location": {"RX1"}, "exp": {at(time.Minute)}}),
		"not base64": {"enc": {"epr|???"}}, "short": {"enc": {"epr|AAAA"}}, "no system": {"enc": {"AAAA"}}, "long": {"enc": {"epr|" + strings.Repeat("A", 40000)}}, "signed and readable in an address": {"token": {"a.b.c"}},
	} {
		if l, err := r.Read(t.Context(), v, false); err == nil {
			t.Errorf("%s: believed: %+v", name, l)
		} else if strings.Contains(err.Error(), number) || strings.Contains(err.Error(), "1948") {
			t.Errorf("%s: the reason tells of the patient", name)
		}
	}
}

func TestAnEditedLaunchIsRefused(t *testing.T) {
	r := reader(t, tokentest.NewKey(t, "k"))
	text := enc(t, "epr", shared, params()).Get("enc")
	for i := range text {
		b := []byte(text)
		b[i] ^= 1
		if _, err := r.Read(t.Context(), url.Values{"enc": {string(b)}}, false); err == nil {
			t.Fatalf("believed with byte %d changed", i)
		}
	}
}

func jwe(t testing.TB, kid string, key []byte, payload []byte, alg jose.KeyAlgorithm) string {
	t.Helper()
	e, err := jose.NewEncrypter(jose.A256GCM, jose.Recipient{Algorithm: alg, Key: key, KeyID: kid}, nil)
	if err != nil {
		t.Fatal(err)
	}
	obj, err := e.Encrypt(payload)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := obj.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestALaunchMayBeAnEncryptedToken(t *testing.T) {
	r := reader(t, tokentest.NewKey(t, "k"))
	payload := func(id string) []byte {
		return fhir.JSON(map[string]any{"patient": fhir.SystemNHSNumber + "|" + number, "birthdate": "1948-03-12", "location": "RX1", "practitioner": "ADEF", "exp": now.Add(time.Minute).Unix(), "jti": id})
	}
	v := url.Values{"token": {jwe(t, "epr", shared, payload("1"), jose.DIRECT)}}
	if l, err := r.Read(t.Context(), v, false); err != nil || l.Patient.Value != number {
		t.Fatalf("%+v %v", l, err)
	}
	again := url.Values{"token": {jwe(t, "epr", shared, payload("1"), jose.DIRECT)}} // encrypted anew, the same launch
	for name, v := range map[string]url.Values{"again": v, "again, encrypted anew": again, "another's key": {"token": {jwe(t, "epr", []byte("another key of 32 bytes........."), payload("2"), jose.DIRECT)}},
		"wrapped otherwise": {"token": {jwe(t, "epr", shared, payload("3"), jose.A256KW)}}, "nobody's": {"token": {jwe(t, "nobody", shared, payload("4"), jose.DIRECT)}},
		"who signs does not sign": {"token": {jwe(t, "signer", shared, payload("5"), jose.DIRECT)}}, "no id": {"token": {jwe(t, "epr", shared, payload(""), jose.DIRECT)}}} {
		if _, err := r.Read(t.Context(), v, false); err == nil {
			t.Errorf("%s: believed", name)
		}
	}
}

func TestASignedLaunchIsPostedOrEncrypted(t *testing.T) {
	key := tokentest.NewKey(t, "k")
	r := reader(t, key)
	g := tokentest.Genuine{Key: key, Type: "JWT", Now: now, Claims: map[string]any{"iss": "https://epr.example", "aud": "https://node.example/launch", "sub": "ADEF", "jti": "1", "iat": now.Unix(), "exp": now.Add(2 * time.Minute).Unix(),
		"patient": fhir.SystemNHSNumber + "|" + number, "birthdate": "1948-03-12", "location": "RX1"}}
	for _, shape := range tokentest.Forged(g) {
		if _, err := r.Read(t.Context(), url.Values{"token": {shape.Raw}}, true); err == nil {
			t.Errorf("believed: %s", shape.Name)
		}
	}
	if _, err := r.Read(t.Context(), url.Values{"token": {g.Sign(t)}}, false); err == nil {
		t.Error("a statement that anybody can read was taken from an address")
	}
	if l, err := r.Read(t.Context(), url.Values{"token": {g.Sign(t)}}, true); err != nil || l.Practitioner != "ADEF" {
		t.Errorf("%+v %v", l, err)
	}
	g.Claims["jti"] = "2"
	if l, err := r.Read(t.Context(), url.Values{"token": {jwe(t, "signer", shared, []byte(g.Sign(t)), jose.DIRECT)}}, false); err != nil || l.Patient.Value != number {
		t.Errorf("signed and encrypted: %+v %v", l, err)
	}
}

func TestALaunchingUserIsOneOfTheLaunchersOwn(t *testing.T) {
	r := reader(t, tokentest.NewKey(t, "k"))
	for _, practitioner := range []string{"MARSHH", "NOBODY", ""} {
		l, err := r.Read(t.Context(), enc(t, "epr", shared, params("practitioner", practitioner)), false)
		if err != nil {
			t.Fatal(err)
		}
		if who, ok, err := r.User(l); ok || err == nil {
			t.Errorf("%q is %+v", practitioner, who)
		}
	}
}

func TestANumberInAnAddressIsSeen(t *testing.T) {
	for _, q := range []string{"patient=" + fhir.SystemNHSNumber + "|" + number, "pat.nhs=" + number, "nhsNumber=1", "x=" + number, "x=999+000+0107", "birthdate=1948-03-12", "id=" + url.QueryEscape("urn:x|"+number)} {
		v, _ := url.ParseQuery(q)
		if !launch.Plain(v) {
			t.Errorf("not seen: %s", q)
		}
	}
	for _, q := range []string{"enc=epr|AAAA", "token=a.b.c", "", "iss=https://epr.example&launch=xyz"} {
		v, _ := url.ParseQuery(q)
		if launch.Plain(v) {
			t.Errorf("seen where there is none: %s", q)
		}
	}
}

func FuzzLaunch(f *testing.F) {
	r := reader(f, tokentest.NewKey(f, "k"))
	good := enc(f, "epr", shared, params()).Get("enc")
	f.Add("enc", good)
	f.Add("enc", "epr|AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
	f.Add("token", jwe(f, "epr", shared, []byte(`{"patient":"x"}`), jose.DIRECT))
	f.Add("token", "a.b.c.d.e")
	f.Fuzz(func(t *testing.T, name, value string) {
		if l, err := r.Read(t.Context(), url.Values{name: {value}}, true); err == nil && value != good {
			t.Fatalf("believed: %+v", l)
		}
	})
}

// What docs/launch.md gives others to hold their implementations against is what is read here, and what Encrypt writes is of that form.
func TestTheLaunchVectorsOfTheDocumentation(t *testing.T) {
	page, err := os.ReadFile("../../docs/launch.md")
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for i, part := range strings.Split(string(page), "```text\n") {
		if i > 0 {
			text, _, _ := strings.Cut(part, "\n```")
			texts = append(texts, text)
		}
	}
	if len(texts) != 4 || !strings.Contains(string(page), "`"+base64.StdEncoding.EncodeToString(shared)+"`") {
		t.Fatalf("%d texts", len(texts))
	}
	plain, err := url.ParseQuery(texts[0])
	if err != nil || plain.Get("patient") != params().Get("patient") || plain.Get("exp") != params().Get("exp") {
		t.Fatalf("%v %v", plain, err)
	}
	for form, v := range map[string]url.Values{"enc": {"enc": {texts[1]}}, "token": {"token": {texts[3]}}, "our own": enc(t, "epr", shared, plain)} {
		l, err := reader(t, tokentest.NewKey(t, "k")).Read(t.Context(), v, false)
		if err != nil || l.Launcher.ID != "epr" || l.Patient.Value != number || l.BirthDate != "1948-03-12" || l.Location != "RX1" || l.Practitioner != "ADEF" {
			t.Errorf("%s: %+v %v", form, l, err)
		}
	}
}
