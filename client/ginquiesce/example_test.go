package ginquiesce_test

import (
	"log"
	"net/http"
	"os"

	"github.com/gin-gonic/gin"

	"github.com/quiescehq/quiesce/client"
	"github.com/quiescehq/quiesce/client/ginquiesce"
)

func insertOrder(*gin.Context) int64 { return 42 }

// The main function of the README.
func Example() {
	app, err := client.Join("orders", client.FromEnv()) // QUIESCE_ADDRS, QUIESCE_GRACE
	if err != nil {
		log.Fatal(err)
	}
	r := gin.New()
	r.Use(ginquiesce.Gate(app)) // counts requests; refuses new ones when it is time
	r.GET("/readyz", ginquiesce.Readiness(app))
	r.POST("/orders", func(c *gin.Context) {
		id := insertOrder(c) // your transaction
		if _, err := app.Enqueue(c, "orders", id); err != nil {
			c.Error(err) // not heard: remove the key from the cache, enqueue again later
		}
		c.Status(http.StatusCreated)
	})
	os.Exit(app.Run(&http.Server{Addr: ":8080", Handler: r})) // SIGTERM: drain in phases, then exit
}
