//! Goal: the commands of the recipes in the documentation work as they stand there.

use std::path::Path;

use anyhow::{Context as _, Result};

use crate::harness::{Harness, Missing, Recipe, Tool};
use crate::scenario::registration::scenarios;

scenarios![
    database_behind_nat,
    web_server_without_tls,
    git_over_socks,
    backup_pipe,
    haproxy_in_front,
    grafana,
    systemd,
];

fn word(path: &Path) -> Result<&str> {
    path.to_str().context("a path in UTF-8")
}

fn database_behind_nat(harness: &Harness) -> Result<()> {
    let recipe = Recipe::read("database-behind-nat.md")?;
    let [initdb, postgres] = [Tool::INITDB.find()?, Tool::POSTGRES.find()?];
    Tool::PSQL.find()?;
    if !rustix::process::geteuid().is_root() {
        let reason = "PostgreSQL runs in a namespace here, as another user than its root".into();
        return Err(Missing { tool: "root", reason }.into());
    }
    let preparation = format!(
        "install -d -o postgres /srv/pg\n\
         as_postgres() {{ setpriv --reuid=postgres --regid=postgres --init-groups \"$@\"; }}\n\
         cd /srv/pg\n\
         as_postgres {} -D /srv/pg/data -U postgres -A trust --no-sync > /dev/null\n\
         as_postgres {} -D /srv/pg/data -h 127.0.0.1 -p 5432 -k /srv/pg -F > /srv/pg/log 2>&1 &\n\
         until_true psql -h 127.0.0.1 -U postgres -c 'select 1'",
        word(&initdb)?,
        word(&postgres)?
    );
    recipe.run(harness, "127.0.0.1 gate.example.org\n", &preparation)
}

fn web_server_without_tls(harness: &Harness) -> Result<()> {
    let recipe = Recipe::read("web-server-without-tls.md")?;
    [Tool::NGINX, Tool::CURL].iter().try_for_each(|tool| tool.find().map(drop))?;
    let preparation =
        format!("mkdir /srv/www\necho 'a page without TLS' > /srv/www/index.html\n{}", nginx("127.0.0.1"));
    recipe.run(harness, "127.0.0.1 web.example.org\n", &preparation)
}

fn git_over_socks(harness: &Harness) -> Result<()> {
    let recipe = Recipe::read("git-over-socks.md")?;
    [Tool::NGINX, Tool::GIT].iter().try_for_each(|tool| tool.find().map(drop))?;
    // A name that leads to the server's own machine would be no target for a client that was allowed the name alone.
    let preparation = format!(
        "unshare --net sleep infinity &\n\
         other=$!\n\
         is_apart() {{ test \"$(readlink /proc/$other/ns/net)\" != \"$(readlink /proc/self/ns/net)\"; }}\n\
         until_true is_apart\n\
         there() {{ nsenter --net=/proc/$other/ns/net \"$@\"; }}\n\
         until_true ip link add here type veth peer name there netns $other\n\
         ip address add 10.77.0.1/24 dev here\n\
         ip link set here up\n\
         there ip address add 10.77.0.10/24 dev there\n\
         there ip link set there up\n\
         at git\n\
         git init -q project\n\
         cd project\n\
         echo 'cloned from inside' > README\n\
         git add README\n\
         git -c user.name=a -c user.email=a@example.org commit -q -m First\n\
         git clone -q --bare . /srv/www/project.git\n\
         git -C /srv/www/project.git update-server-info\n{}",
        nginx("10.77.0.10").replace("\nnginx -e", "\nthere nginx -e")
    );
    recipe.run(harness, "10.77.0.10 git.internal\n127.0.0.1 gate.example.org\n", &preparation)
}

fn backup_pipe(harness: &Harness) -> Result<()> {
    let preparation = "at laptop\nmkdir data\necho 'not to be lost' > data/note";
    Recipe::read("backup-pipe.md")?.run(harness, "127.0.0.1 store.example.org\n", preparation)
}

fn haproxy_in_front(harness: &Harness) -> Result<()> {
    let recipe = Recipe::read("haproxy-in-front.md")?;
    Tool::HAPROXY.find()?;
    recipe.run(harness, "127.0.0.1 gate.example.org\n", "")
}

fn grafana(harness: &Harness) -> Result<()> {
    let recipe = Recipe::read("grafana.md")?;
    [Tool::CURL, Tool::PROMTOOL].iter().try_for_each(|tool| tool.find().map(drop))?;
    recipe.run(harness, "127.0.0.1 gate.example.org\n", "")
}

/// The units of the package are tried elsewhere: here the configuration that they go by is.
fn systemd(harness: &Harness) -> Result<()> {
    Recipe::read("systemd.md")?.run(harness, "127.0.0.1 gate.example.org\n", "")
}

/// Starts nginx for what is in `/srv/www`, on port 8000 of an address.
fn nginx(address: &str) -> String {
    format!(
        "mkdir /srv/nginx\n\
         kinds='client_body proxy fastcgi uwsgi scgi'\n\
         {{ echo 'pid /srv/nginx/pid; error_log /srv/nginx/log; user root; events {{}} http {{'\n\
         for kind in $kinds; do echo \"${{kind}}_temp_path /srv/nginx/$kind;\"; done\n\
         echo 'access_log off; server {{ listen {address}:8000; root /srv/www; }} }}'; }} > /srv/nginx/conf\n\
         nginx -e /srv/nginx/log -c /srv/nginx/conf"
    )
}
