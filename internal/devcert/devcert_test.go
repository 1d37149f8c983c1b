package devcert

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"testing"
	"time"
)

func TestCertificate(t *testing.T) {
	c, err := Certificate()
	if err != nil {
		t.Fatal(err)
	}
	again, _ := Certificate()
	if again.Leaf != c.Leaf {
		t.Error("two certificates in one process")
	}
	if key := c.PrivateKey.(*ecdsa.PrivateKey); key.Curve != elliptic.P256() {
		t.Error("key on ", key.Params().Name)
	}
	if left := time.Until(c.Leaf.NotAfter); left > lifetime {
		t.Error("valid for ", left)
	}
	roots := x509.NewCertPool()
	roots.AddCert(c.Leaf)
	for _, name := range []string{"localhost", "127.0.0.1", "::1"} {
		if _, err := c.Leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: roots}); err != nil {
			t.Error(name, err)
		}
	}
	if _, err := c.Leaf.Verify(x509.VerifyOptions{DNSName: "example.com", Roots: roots}); err == nil {
		t.Error("valid for a stranger's name")
	}
}
