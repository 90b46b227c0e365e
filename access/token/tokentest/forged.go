// Package tokentest makes forged and broken statements of every kind that is known, for the tests of whatever takes signed statements
// in: each door must refuse all of them.
package tokentest

import (
	"bytes"
	"compress/flate"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"tombolo/access/token"
)

// A Shape is one statement that nobody may believe.
type Shape struct{ Name, Raw string }

// A Genuine statement, of which forgeries are made.
type Genuine struct {
	Key     jose.JSONWebKey // with its private part, RS256
	Type    string
	Claims  map[string]any // that the door takes
	Now     time.Time
	Another bool // the door takes a second statement with the same jti: no shape for a replay is needed here
}

// Sign makes the statement itself.
func (g Genuine) Sign(t testing.TB) string {
	t.Helper()
	raw, err := token.Sign(g.Key, g.Type, g.Claims)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// NewKey makes a signing key with an id.
func NewKey(t testing.TB, id string) jose.JSONWebKey {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return jose.JSONWebKey{Key: k, KeyID: id, Algorithm: string(jose.RS256), Use: "sig"}
}

var others = sync.OnceValues(func() (*rsa.PrivateKey, *ecdsa.PrivateKey) {
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	e, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return r, e
})

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func marshal(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// rs256 signs any header and payload whatever, also those that a library would not.
func rs256(key *rsa.PrivateKey, header, payload []byte) string {
	in := encode(header) + "." + encode(payload)
	sum := sha256.Sum256([]byte(in))
	sig, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, sum[:])
	if err != nil {
		panic(err)
	}
	return in + "." + encode(sig)
}

func hs256(secret, header, payload []byte) string {
	in := encode(header) + "." + encode(payload)
	m := hmac.New(sha256.New, secret)
	m.Write([]byte(in))
	return in + "." + encode(m.Sum(nil))
}

// Forged are all the shapes made of a genuine statement.
func Forged(g Genuine) []Shape {
	f := forger{g: g, key: g.Key.Key.(*rsa.PrivateKey)}
	f.head = map[string]any{"alg": "RS256", "kid": g.Key.KeyID}
	if g.Type != "" {
		f.head["typ"] = g.Type
	}
	f.algorithms()
	f.keys()
	f.headers()
	f.claims()
	f.times()
	f.encodings()
	f.containers()
	return f.shapes
}

type forger struct {
	g      Genuine
	key    *rsa.PrivateKey
	head   map[string]any
	shapes []Shape
}

func (f *forger) add(name, raw string) { f.shapes = append(f.shapes, Shape{name, raw}) }

// header is the genuine header with a parameter changed; nil takes it away.
func (f *forger) header(name string, value any) []byte { return marshal(with(f.head, name, value)) }

func (f *forger) payload() []byte { return marshal(f.g.Claims) }

func with(m map[string]any, name string, value any) map[string]any {
	m = maps.Clone(m)
	if m[name] = value; value == nil {
		delete(m, name)
	}
	return m
}

func (f *forger) signed(header, payload []byte) string { return rs256(f.key, header, payload) }

func (f *forger) algorithms() {
	for _, none := range []string{"none", "None", "NONE", "nOnE", ""} {
		h := encode(f.header("alg", none)) + "." + encode(f.payload()) + "."
		f.add(fmt.Sprintf("alg %q, no signature", none), h)
		f.add(fmt.Sprintf("alg %q, some signature", none), h+encode([]byte("signature")))
	}
	public := marshal(f.g.Key.Public())
	der, _ := x509.MarshalPKIXPublicKey(f.key.Public())
	for name, secret := range map[string][]byte{"the public key as PEM": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), "the public key as DER": der, "the public key as JWK": public,
		"the modulus": f.key.N.Bytes(), "nothing": {}, "the kid": []byte(f.g.Key.KeyID)} {
		f.add("HS256 with "+name+" for a secret", hs256(secret, f.header("alg", "HS256"), f.payload()))
	}
	for _, alg := range []string{"HS512", "EdDSA", "RS1", "RS256 ", "rs256", "ES256K", "dir", "RSA-OAEP"} {
		f.add("alg "+alg+" over an RS256 signature", f.signed(f.header("alg", alg), f.payload()))
	}
	f.add("alg PS256 over an RS256 signature", f.signed(f.header("alg", "PS256"), f.payload()))
	f.add("alg ES256 over an RS256 signature", f.signed(f.header("alg", "ES256"), f.payload()))
	f.add("no alg", f.signed(f.header("alg", nil), f.payload()))
	f.add("alg that is a number", f.signed(f.header("alg", 256), f.payload()))
	f.add("alg that is a list", f.signed(f.header("alg", []string{"RS256", "none"}), f.payload()))
}

func (f *forger) keys() {
	other, ec := others()
	f.add("signed by somebody else's key under the issuer's kid", rs256(other, f.header("kid", f.g.Key.KeyID), f.payload()))
	jwk := jose.JSONWebKey{Key: other.Public(), KeyID: "mine", Algorithm: "RS256"}
	f.add("somebody else's key inside (jwk)", rs256(other, f.header("jwk", jwk), f.payload()))
	f.add("somebody else's key inside, with its kid", rs256(other, marshal(with(with(f.head, "jwk", jwk), "kid", "mine")), f.payload()))
	f.add("the issuer's own key inside (jwk)", f.signed(f.header("jwk", f.g.Key.Public()), f.payload()))
	for _, name := range []string{"jku", "x5u"} {
		f.add(name+" of somebody else", rs256(other, f.header(name, "https://attacker.example/keys"), f.payload()))
		f.add(name+" beside a good signature", f.signed(f.header(name, "https://attacker.example/keys"), f.payload()))
	}
	f.add("x5c of somebody else", rs256(other, f.header("x5c", []string{base64.StdEncoding.EncodeToString([]byte("certificate"))}), f.payload()))
	for name, kid := range map[string]any{"a path": "../../../../dev/null", "a path with a zero": f.g.Key.KeyID + "\x00", "SQL": "' UNION SELECT 'secret' --", "an address": "https://attacker.example/keys",
		"in other letters": strings.ToUpper(f.g.Key.KeyID) + "X", "with a space": f.g.Key.KeyID + " ", "empty": "", "missing": nil, "a number": 1, "a list": []string{f.g.Key.KeyID}, "huge": strings.Repeat("k", 4000)} {
		f.add("kid: "+name, f.signed(f.header("kid", kid), f.payload()))
	}
	if raw, err := token.Sign(jose.JSONWebKey{Key: ec, KeyID: f.g.Key.KeyID, Algorithm: "ES256"}, f.g.Type, f.g.Claims); err == nil {
		f.add("signed with an elliptic key under the issuer's kid", raw)
	}
}

func (f *forger) headers() {
	for name, value := range map[string]any{"crit": []string{"exp"}, "b64": false, "zip": "DEF", "enc": "A256GCM", "cty": "JWT", "epk": map[string]any{}, "x-unknown": 1} {
		f.add("header "+name, f.signed(f.header(name, value), f.payload()))
	}
	f.add("crit that is empty", f.signed(f.header("crit", []string{}), f.payload()))
	for _, typ := range []any{"secevent+jwt", "logout+jwt", "dpop+jwt", "JWE", 7} {
		f.add(fmt.Sprintf("typ %v", typ), f.signed(f.header("typ", typ), f.payload()))
	}
	twice := []byte(`{"alg":"none",` + string(marshal(f.head))[1:])
	f.add("alg twice", f.signed(twice, f.payload()))
	f.add("header in other letters", f.signed([]byte(strings.Replace(string(marshal(f.head)), `"alg"`, `"Alg"`, 1)), f.payload()))
	f.add("header that is a list", f.signed([]byte("["+string(marshal(f.head))+"]"), f.payload()))
	f.add("header with something after it", f.signed(append(marshal(f.head), "{}"...), f.payload()))
	f.add("header that is no JSON", f.signed([]byte("alg=RS256"), f.payload()))
	f.add("header with a byte order mark", f.signed(append([]byte("\xef\xbb\xbf"), marshal(f.head)...), f.payload()))
}

func (f *forger) claims() {
	put := func(name, claim string, value any) {
		f.add(name, f.signed(marshal(f.head), marshal(with(f.g.Claims, claim, value))))
	}
	iss, _ := f.g.Claims["iss"].(string)
	put("no iss", "iss", nil)
	put("iss of somebody else", "iss", "https://attacker.example")
	put("iss with a slash more", "iss", iss+"/")
	put("iss that begins alike", "iss", iss+".attacker.example")
	put("iss in a list", "iss", []string{iss})
	put("no aud", "aud", nil)
	put("aud of somebody else", "aud", "https://elsewhere.example")
	put("aud that is empty", "aud", "")
	put("aud that is an empty list", "aud", []string{})
	put("aud that is a list of others", "aud", []string{"https://elsewhere.example", ""})
	put("aud that is an object", "aud", map[string]any{"a": f.g.Claims["aud"]})
	if aud, ok := f.g.Claims["aud"].(string); ok {
		put("aud that begins alike", "aud", aud+".attacker.example")
	}
	put("no sub", "sub", nil)
	put("sub that is empty", "sub", "")
	put("sub that is a number", "sub", 12)
	put("sub that is huge", "sub", strings.Repeat("s", 1000))
	doubled := string(f.payload())
	f.add("iss twice", f.signed(marshal(f.head), []byte(`{"iss":"https://attacker.example",`+doubled[1:])))
	f.add("sub twice", f.signed(marshal(f.head), []byte(doubled[:len(doubled)-1]+`,"sub":"somebody-else"}`)))
	f.add("exp twice", f.signed(marshal(f.head), []byte(`{"exp":1,`+doubled[1:])))
	f.add("a claim again in other letters", f.signed(marshal(f.head), []byte(doubled[:len(doubled)-1]+`,"Sub":"somebody-else"}`)))
}

func (f *forger) times() {
	put := func(name, claim string, value any) {
		f.add(name, f.signed(marshal(f.head), marshal(with(f.g.Claims, claim, value))))
	}
	now := f.g.Now.Unix()
	put("no exp", "exp", nil)
	put("expired", "exp", now-300)
	put("expired long ago", "exp", 1)
	put("exp that is a text", "exp", fmt.Sprint(now+60))
	put("exp below zero", "exp", -1)
	put("exp beyond all time", "exp", 1e30)
	put("exp in ten years", "exp", now+10*365*86400)
	put("nbf in the future", "nbf", now+3600)
	put("nbf that is a text", "nbf", "now")
	put("iat in the future", "iat", now+3600)
	put("no iat", "iat", nil)
	put("iat that is a text", "iat", "today")
}

func (f *forger) encodings() {
	good := f.signed(marshal(f.head), f.payload())
	p := strings.Split(good, ".")
	f.add("nothing", "")
	f.add("one part", p[0])
	f.add("two parts", p[0]+"."+p[1])
	f.add("four parts", good+"."+p[2])
	f.add("five parts, as a JWE has", good+".a.b")
	f.add("an empty payload", p[0]+".."+p[2])
	f.add("an empty header", "."+p[1]+"."+p[2])
	f.add("a signature cut short", good[:len(good)-20])
	f.add("a signature of zeros", p[0]+"."+p[1]+"."+encode(make([]byte, 256)))
	f.add("a changed payload", p[0]+"."+encode(marshal(with(f.g.Claims, "sub", "somebody-else")))+"."+p[2])
	f.add("padding", p[0]+"=."+p[1]+"."+p[2])
	f.add("base64 and not base64url", p[0]+"."+base64.StdEncoding.EncodeToString(append(f.payload(), "   \xff\xfe"...))+"."+p[2])
	f.add("line ends", p[0]+".\r\n"+p[1]+"."+p[2])
	f.add("a space before", " "+good)
	f.add("a space after", good+" ")
	f.add("no base64", p[0]+".<script>."+p[2])
	f.add("huge", f.signed(marshal(f.head), marshal(with(f.g.Claims, "more", strings.Repeat("x", 64<<10)))))
	f.add("deep", f.signed(marshal(f.head), []byte(`{"more":`+strings.Repeat("[", 20000)+strings.Repeat("]", 20000)+`}`)))
	f.add("a payload that is no object", f.signed(marshal(f.head), []byte(`"iss"`)))
	f.add("a payload that is null", f.signed(marshal(f.head), []byte(`null`)))
	f.add("a payload that is not UTF-8", f.signed(marshal(f.head), append(f.payload()[:len(f.payload())-1], ",\"x\":\"\xff\"}"...)))
	f.add("a payload with something after it", f.signed(marshal(f.head), append(f.payload(), "{}"...)))
	last := strings.IndexByte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", good[len(good)-1])
	f.add("loose bits at the end", good[:len(good)-1]+string("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[last^1]))
}

func (f *forger) containers() {
	good := f.signed(marshal(f.head), f.payload())
	p := strings.Split(good, ".")
	f.add("JSON serialisation, flattened", string(marshal(map[string]any{"protected": p[0], "payload": p[1], "signature": p[2]})))
	f.add("JSON serialisation, general", string(marshal(map[string]any{"payload": p[1], "signatures": []any{map[string]any{"protected": p[0], "signature": p[2]}}})))
	f.add("unprotected header", string(marshal(map[string]any{"header": f.head, "payload": p[1], "signature": p[2]})))
	f.add("a statement in a statement", f.signed(f.header("cty", "JWT"), []byte(good)))
	if enc, err := jose.NewEncrypter(jose.A256GCM, jose.Recipient{Algorithm: jose.RSA_OAEP_256, Key: f.key.Public()}, nil); err == nil {
		if obj, err := enc.Encrypt([]byte(good)); err == nil {
			raw, _ := obj.CompactSerialize()
			f.add("JWE to the issuer's key", raw)
		}
	}
	var packed bytes.Buffer
	w, _ := flate.NewWriter(&packed, flate.BestCompression)
	_, _ = w.Write(f.payload())
	_ = w.Close()
	f.add("compressed payload", f.signed(f.header("zip", "DEF"), packed.Bytes()))
}
