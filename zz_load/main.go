package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"signet.example/signet/api/client"
)

func cpu(pid string) int {
	b, _ := os.ReadFile("/proc/" + pid + "/stat")
	f := strings.Fields(string(b[strings.LastIndex(string(b), ")")+2:]))
	u, _ := strconv.Atoi(f[11])
	s, _ := strconv.Atoi(f[12])
	return (u + s) * 10000
}

func main() {
	dir, addr, pid := os.Args[1], os.Args[2], os.Args[3]
	roots, _ := client.ReadRoots(dir + "/root.pem")
	token, _ := client.ReadToken(dir + "/admin.token")
	c, err := client.New(client.Config{Address: addr, Roots: roots, Token: token})
	if err != nil {
		panic(err)
	}
	run := func(d time.Duration) (int64, int) {
		var n atomic.Int64
		ctx, cancel := context.WithTimeout(context.Background(), d)
		defer cancel()
		before := cpu(pid)
		var wg sync.WaitGroup
		for range 32 {
			wg.Go(func() {
				for ctx.Err() == nil {
					if _, err := c.WhoAmI(context.Background()); err != nil {
						panic(err)
					}
					n.Add(1)
				}
			})
		}
		wg.Wait()
		return n.Load(), cpu(pid) - before
	}
	run(time.Second)
	for range 3 {
		n, us := run(4 * time.Second)
		fmt.Printf("%d calls, %.1f us CPU each\n", n, float64(us)/float64(n))
	}
}
