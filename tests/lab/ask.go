// Asks with Go's own resolver: by /etc/resolv.conf, or at the address given.
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"time"
)

func main() {
	r := &net.Resolver{PreferGo: true, StrictErrors: true}
	if len(os.Args) > 1 {
		r.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, os.Args[1])
		}
	}
	ctx, done := context.WithTimeout(context.Background(), 10*time.Second)
	defer done()
	for _, name := range []string{"web.svc.internal", "one", "nope.svc.internal"} {
		found, err := r.LookupHost(ctx, name)
		fmt.Println(name, len(found), err)
	}
	many, err := r.LookupHost(ctx, "big.svc.internal")
	fmt.Println("big", len(many), err)
	_, services, err := r.LookupSRV(ctx, "80", "tcp", "web.svc.internal")
	fmt.Println("SRV", len(services), err)
	mails, err := r.LookupMX(ctx, "mail.svc.internal")
	fmt.Println("MX", len(mails), err)
	texts, err := r.LookupTXT(ctx, "note.svc.internal")
	fmt.Println("TXT", texts, err)
}
