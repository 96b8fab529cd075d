//! `warren run`

use super::Failure;
use crate::cli::Global;
use crate::folders::{StateDir, control_socket};
use crate::logging;
use crate::node::Node;
use crate::screen::{Event, Screen};
use crate::stop::Stop;

pub(super) fn run(global: &Global) -> Result<(), Failure> {
    let config = super::load(global)?;
    logging::start(&config.log);
    let screen = if global.json { Screen::Json } else { Screen::Quiet };
    super::runtime(&config)?.block_on(async {
        let mut stop = Stop::on_signals().map_err(anyhow::Error::from)?;
        let state = StateDir::open(&config.state_dir()).map_err(anyhow::Error::from)?;
        let control = control_socket(state.path());
        let mut node = Node::start(&config, state).await?;
        node.open_control()?;
        let status = node.status().await;
        screen.show(&Event::Ready {
            peer_id: status.peer_id,
            tunnel: status.tunnel_addresses,
            overlay: status.overlay_addresses,
            socks: status.socks_address,
            control,
        });
        stop.asked().await;
        node.shutdown().await;
        Ok(())
    })
}
